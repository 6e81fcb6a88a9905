// SPDX-License-Identifier: Apache-2.0

package kubeproxy

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

// evil is what an attacker writes where everything passes. marker is in it.
const (
	marker = "zz-evil"
	evil   = marker + "\x1b[2J\x1b[H\nforged\r\n\t\b\x07\x7f\u0085\u009b2J\u061c\u200b\u200e\u202e\u2066\u2028\ufeff\U000e0041"
)

// evilLong does not fit any line.
var evilLong = evil + strings.Repeat("x", 200_000)

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
		return modeAt(server.Listener.Addr().String())
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
	if got := modeAt("127.0.0.1:1"); got != "" {
		t.Errorf("nobody is taken for a kube-proxy in mode %q", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
