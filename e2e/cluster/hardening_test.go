// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// noOtherProxy: the nodes have nftproxy's tables and no others, and there is no kube-proxy
// on them or in the cluster.
func (s *site) noOtherProxy() {
	nft := netnstest.Tool(s.t, "nft")
	for _, n := range s.Nodes {
		var out []byte
		must(s.t, n.Do(func() (err error) {
			out, err = exec.Command(nft, "list", "tables").CombinedOutput()
			return err
		}))
		tables := strings.Split(strings.TrimSpace(string(out)), "\n")
		slices.Sort(tables)
		if !slices.Equal(tables, []string{"table ip nftproxy", "table ip nftproxy_lock", "table ip6 nftproxy"}) {
			s.t.Errorf("the tables of %s are\n%s", n.Name(), out)
		}
		if pid, err := findProcess(n.NS, isKubeProxy); err == nil {
			s.t.Errorf("process %d on %s is a kube-proxy", pid, n.Name())
		}
	}
	pods, err := s.Client().CoreV1().Pods(metav1.NamespaceAll).List(s.t.Context(), metav1.ListOptions{})
	must(s.t, err)
	for _, p := range pods.Items {
		if strings.Contains(p.Name, "kube-proxy") || strings.Contains(p.Spec.Containers[0].Image, "kube-proxy") {
			s.t.Errorf("pod %s/%s is a kube-proxy", p.Namespace, p.Name)
		}
	}
}

func isKubeProxy(cmdline, _ string) bool {
	program, _, _ := strings.Cut(strings.TrimPrefix(cmdline, "\x00"), "\x00")
	return filepath.Base(program) == "kube-proxy"
}

// hardened: what the DaemonSet's securityContext asks for is so in the running processes.
func (s *site) hardened() {
	for _, n := range s.Nodes {
		pid, _ := s.nftproxy(n)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		must(s.t, err)
		onlyNetAdmin := fmt.Sprintf("%016x", 1<<unix.CAP_NET_ADMIN)
		for field, want := range map[string]string{
			"CapPrm": onlyNetAdmin, "CapEff": onlyNetAdmin, "CapBnd": onlyNetAdmin,
			"Seccomp":    fmt.Sprint(unix.SECCOMP_MODE_FILTER),
			"NoNewPrivs": "1",
		} {
			if got := statusField(string(status), field); got != want {
				s.t.Errorf("nftproxy on %s has %s %q, want %q", n.Name(), field, got, want)
			}
		}
		confined, err := sandbox.Of("/proc", fmt.Sprint(pid))
		must(s.t, err)
		if _, err := sandbox.ABI(); err == nil && !confined.Confined() {
			s.t.Errorf("nftproxy on %s is not confined: %s", n.Name(), confined)
		}
		options, err := rootOptions(pid)
		must(s.t, err)
		if !slices.Contains(options, "ro") {
			s.t.Errorf("nftproxy's root on %s is mounted %v, want ro", n.Name(), options)
		}
		s.t.Logf("%s: CapEff %s, Seccomp %s, NoNewPrivs %s, root %v", n.Name(), statusField(string(status), "CapEff"),
			statusField(string(status), "Seccomp"), statusField(string(status), "NoNewPrivs"), options)
	}
}

// statusField returns a field of /proc/PID/status.
func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// rootOptions returns the options with which a process's root is mounted for it.
func rootOptions(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 5 && words[4] == "/" { // proc(5): the mount point, then its options
			return strings.Split(words[5], ","), nil
		}
	}
	return nil, fmt.Errorf("process %d has no root mount", pid)
}
