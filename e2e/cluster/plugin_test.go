// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// plugin runs `kubectl nftproxy` outside the nodes, as an administrator does: it asks nftproxy's pods through the API server.
func (s *site) plugin() {
	program, err := filepath.Abs("../../bin/nftproxy")
	must(s.t, err)
	link := filepath.Join(s.t.TempDir(), "kubectl-nftproxy")
	must(s.t, os.Symlink(program, link))
	kubectl := func(args ...string) (string, error) {
		cmd := exec.CommandContext(s.t.Context(), link, args...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig())
		var out []byte
		err := s.Network.Outside.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
		return string(out), err
	}
	nodes := s.living()
	for _, tt := range []struct{ command, want string }{
		{"explain " + shop + "/web --all-nodes", "The same on all 2 nodes"},
		{"explain -n " + shop + " svc/web --node " + nodes[0].Name(), "The kernel holds just that."},
		{"get services -A --node " + nodes[1].Name(), "web"},
		{"trace --for 1s --node " + nodes[1].Name(), ""},
	} {
		out, err := kubectl(strings.Fields(tt.command)...)
		if err != nil || !strings.Contains(out, tt.want) {
			s.t.Errorf("kubectl nftproxy %s, want %q: %v\n%s", tt.command, tt.want, err, out)
		}
	}
	s.pluginPage(link)
	const noPod = "node nowhere: no pod of nftproxy's DaemonSet runs there"
	if out, err := kubectl("explain", shop+"/web", "--node", "nowhere"); !strings.Contains(out, "this is a guess") || !strings.Contains(out, noPod) {
		s.t.Errorf("kubectl nftproxy explain for a node that is not there, want a guess that says so: %v\n%s", err, out)
	}
	if out, err := kubectl("diff", "--node", "nowhere"); err == nil || !strings.Contains(out, noPod) {
		s.t.Errorf("kubectl nftproxy diff for a node that is not there, want an error that says so: %v\n%s", err, out)
	}
}

// pluginPage opens the page that `kubectl nftproxy ui` serves, and asks each node through it.
func (s *site) pluginPage(program string) {
	cmd := exec.CommandContext(s.t.Context(), program, "ui", "--all-nodes")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig())
	out, err := cmd.StdoutPipe()
	must(s.t, err)
	must(s.t, s.Network.Outside.Do(cmd.Start))
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	must(s.t, err)
	at, err := url.Parse(strings.TrimSpace(line))
	must(s.t, err)
	get := func(path string) string {
		var text []byte
		must(s.t, s.Network.Outside.Do(func() error {
			conn, err := net.Dial("tcp", at.Host) // an http.Transport would dial on another thread
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err = fmt.Fprintf(conn, "GET %s%s HTTP/1.0\r\nHost: %s\r\n\r\n", at.Path, path, at.Host); err != nil {
				return err
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			text, err = io.ReadAll(answer.Body)
			return err
		}))
		return string(text)
	}
	for i, n := range s.living() { // both are sorted
		version := get(fmt.Sprintf("api/%d/v1/version", i))
		if services := get(fmt.Sprintf("api/%d/v1/services/%s/web", i, shop)); !strings.Contains(version, fmt.Sprintf("%q", n.Name())) || !strings.Contains(services, `"name":"web"`) {
			s.t.Errorf("the page's node %d says %s and %s, want that of %s", i, version, services, n.Name())
		}
	}
}
