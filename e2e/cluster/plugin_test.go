// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
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
	} {
		out, err := kubectl(strings.Fields(tt.command)...)
		if err != nil || !strings.Contains(out, tt.want) {
			s.t.Errorf("kubectl nftproxy %s, want %q: %v\n%s", tt.command, tt.want, err, out)
		}
	}
	if out, err := kubectl("explain", shop+"/web", "--node", "nowhere"); err == nil && !strings.Contains(out, "nowhere") {
		s.t.Errorf("kubectl nftproxy for a node that is not there, want an error or a guess that says so:\n%s", out)
	}
}
