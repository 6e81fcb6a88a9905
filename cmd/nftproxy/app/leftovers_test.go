// SPDX-License-Identifier: Apache-2.0

package app

import (
	"os"
	"path/filepath"
	"testing"
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
		{"kube-proxy somewhere", "kube-proxy", "kube-proxy", "", "7", ""},
		{"nftproxy", "nftproxy", "/nftproxy\x00--v=2\x00run\x00--config\x00x", here, "", "7"},
		{"nftproxy of another node", "nftproxy", "/nftproxy\x00run", elsewhere, "", ""},
		{"another command", "nftproxy", "nftproxy\x00top\x00--interval=3s", here, "", ""},
		{"another program", "runner", "runner\x00run", here, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			fakeProcess(t, root, "self", "nftproxy", "nftproxy\x00cleanup", here)
			fakeProcess(t, root, "7", tt.comm, tt.cmdline, tt.ns)
			if got := runningKubeProxy(root); got != tt.wantKubeProxy {
				t.Errorf("kube-proxy is process %q, want %q", got, tt.wantKubeProxy)
			}
			if got := runningNftproxy(root); got != tt.wantNftproxy {
				t.Errorf("nftproxy is process %q, want %q", got, tt.wantNftproxy)
			}
		})
	}
}

// fakeProcess writes what /proc has of a process; netns may be empty.
func fakeProcess(t *testing.T, root, pid, comm, cmdline, netns string) {
	t.Helper()
	dir := filepath.Join(root, "proc", pid)
	must(t, os.MkdirAll(filepath.Join(dir, "ns"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "comm"), []byte(comm+"\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "cmdline"), []byte(cmdline), 0o644))
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
