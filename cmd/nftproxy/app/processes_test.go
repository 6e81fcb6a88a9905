// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
)

// TestRunning finds proxies of this node by their processes.
func TestRunning(t *testing.T) {
	const here, elsewhere = "net:[1]", "net:[2]"
	for _, tt := range []struct {
		name, comm, cmdline, ns     string
		wantKubeProxy, wantNftproxy string
	}{
		{"kube-proxy", "kube-proxy", "kube-proxy\x00--config\x00/run", here, "7", ""},
		{"kube-proxy of another node on this machine", "kube-proxy", "kube-proxy", elsewhere, "", ""},
		{"kube-proxy who knows where", "kube-proxy", "kube-proxy", "", "", ""},
		{"nftproxy", "nftproxy", "/nftproxy\x00--v=2\x00run\x00--config\x00x", here, "", "7"},
		{"nftproxy of another node", "nftproxy", "/nftproxy\x00run", elsewhere, "", ""},
		{"another command", "nftproxy", "nftproxy\x00top\x00--interval=3s", here, "", ""},
		{"another program", "runner", "runner\x00run", here, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			fakeProcess(t, root, "self", "nftproxy", "nftproxy\x00cleanup", here)
			fakeProcess(t, root, "7", tt.comm, tt.cmdline, tt.ns)
			if got := kubeproxy.Find(root); got.Process != tt.wantKubeProxy || got.Notes != nil {
				t.Errorf("kube-proxy is process %q, want %q; notes %q", got.Process, tt.wantKubeProxy, got.Notes)
			}
			if got, notes := runningOf(root, ""); got != tt.wantNftproxy || notes != nil {
				t.Errorf("nftproxy is process %q, want %q; notes %q", got, tt.wantNftproxy, notes)
			}
		})
	}
}

// TestRunningElse does not find the process that asks.
func TestRunningElse(t *testing.T) {
	root := t.TempDir()
	fakeProcess(t, root, "7", "nftproxy", "nftproxy\x00run\x00--cleanup", "net:[1]")
	must(t, os.Symlink("7", filepath.Join(root, "proc/self")))
	if got, _ := runningOf(root, ""); got != "" {
		t.Errorf("nftproxy is process %q, which is this one", got)
	}
}

// fakeProcess writes what /proc has of a process of this user and program; netns may be empty.
func fakeProcess(t *testing.T, root, pid, comm, cmdline, netns string) {
	t.Helper()
	dir := filepath.Join(root, "proc", pid)
	must(t, os.MkdirAll(filepath.Join(dir, "ns"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "comm"), []byte(comm+"\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "cmdline"), []byte(cmdline), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "status"), fmt.Appendf(nil, "Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\nCapPrm:\t0000000000000000\n", os.Getuid()), 0o644))
	for name, to := range map[string]string{"exe": "/proc/self/exe", "root": "/", "cwd": "/", "ns/mnt": "mnt:[1]", "ns/user": "user:[1]"} {
		must(t, os.Symlink(to, filepath.Join(dir, name)))
	}
	if netns != "" {
		must(t, os.Symlink(netns, filepath.Join(dir, "ns/net")))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
