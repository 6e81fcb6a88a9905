// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/ipvs"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/serve"
	"github.com/nftproxy/nftproxy/printable"
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
			if got, notes := runningKubeProxy(root); got != tt.wantKubeProxy || notes != nil {
				t.Errorf("kube-proxy is process %q, want %q; notes %q", got, tt.wantKubeProxy, notes)
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

// TestElsewhere names what netlink's nftables does not reach.
func TestElsewhere(t *testing.T) {
	const ipvsHead = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"nothing", nil, nil},
		{"loaded and empty", map[string]string{"ip_tables_names": "", "ip6_tables_names": "\n", "ip_vs": ipvsHead}, nil},
		{"legacy iptables", map[string]string{"ip_tables_names": "nat\nfilter\n"}, []string{"legacy iptables has tables (/proc/net/ip_tables_names): if kube-proxy used them, remove its chains with 'kube-proxy --cleanup'"}},
		{"of both families", map[string]string{"ip_tables_names": "nat\n", "ip6_tables_names": "nat\n"}, []string{"(/proc/net/ip_tables_names)", "(/proc/net/ip6_tables_names)"}},
		{"IPVS", map[string]string{"ip_vs": ipvsHead + "TCP  0A600001:01BB rr\n"}, []string{"IPVS has virtual services (/proc/net/ip_vs): if kube-proxy made them, remove them with 'kube-proxy --cleanup' or 'ipvsadm --clear'"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(root, "proc/net"), 0o755))
			for name, text := range tt.files {
				must(t, os.WriteFile(filepath.Join(root, "proc/net", name), []byte(text), 0o644))
			}
			got := elsewhere(root, ipvs.Left{})
			if !slices.EqualFunc(got, tt.want, strings.Contains) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestKubeProxyMode tells kube-proxy by what it answers.
func TestKubeProxyMode(t *testing.T) {
	ask := func(handler http.Handler) string {
		server := httptest.NewServer(handler)
		defer server.Close()
		return kubeProxyMode(server.Listener.Addr().String())
	}
	if got := ask(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "iptables") })); got != "iptables" {
		t.Errorf("kube-proxy's mode is %q", got)
	}
	if got := ask(serve.Pages{Metrics: prometheus.NewRegistry(), Config: &config.Config{}}.Handler()); got != "" {
		t.Errorf("nftproxy is taken for a kube-proxy in mode %q", got)
	}
	if got := ask(http.NotFoundHandler()); got != "" {
		t.Errorf("another program is taken for a kube-proxy in mode %q", got)
	}
	if got := ask(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(evil))
		}
	})); !strings.HasPrefix(got, marker) || !printable.Is(got) || len(got) > 200 {
		t.Errorf("an answer without an end is shown as %q", got)
	}
	followed := 0
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed++ }))
	defer target.Close()
	if got := ask(http.RedirectHandler(target.URL, http.StatusFound)); got != "" || followed > 0 {
		t.Errorf("a redirection is followed %d times, to a kube-proxy in mode %q", followed, got)
	}
	if got := ask(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", evilLong) })); got != "" {
		t.Errorf("a header of %d bytes is taken for that of a kube-proxy in mode %q", len(evilLong), got)
	}
	if got := kubeProxyMode("127.0.0.1:1"); got != "" {
		t.Errorf("nobody is taken for a kube-proxy in mode %q", got)
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
