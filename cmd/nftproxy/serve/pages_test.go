// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
)

// pages are those of a run with kube-proxy's flags.
func pages(t *testing.T, args ...string) Pages {
	t.Helper()
	var o config.Options
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.AddFlags(fs)
	o.AddRunFlags(fs)
	must(t, fs.Parse(args))
	return Pages{Metrics: prometheus.NewRegistry(), Config: &o.Config, Version: "v1.2.3",
		Flags: func() []string { return []string{"b=2", "a=1"} }, Confinement: func() string { return "none" }}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestStatusPages: what is where kube-proxy has it.
func TestStatusPages(t *testing.T) {
	_, err := kubernetes.NewForConfig(&rest.Config{Host: "https://[::1]:1"}) // which has metrics
	must(t, err)
	o := pages(t, "--profiling", "--proxy-mode=iptables")
	handler := o.Handler()
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w
	}
	for path, want := range map[string]string{
		"/healthz":             "ok",
		"/healthz/ping":        "ok",
		"/proxyMode":           "nftables",
		"/metrics":             "rest_client_exec_plugin_ttl_seconds +Inf",
		"/metrics/slis":        `kubernetes_healthcheck{name="ping",type="healthz"} 1`,
		"/configz":             `"mode":"iptables"`,
		"/flagz":               "kube-proxy flagz\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\na=1\nb=2\n",
		"/statusz":             "Paths: /configz /debug/flags/v /debug/pprof/ ",
		"/debug/pprof/":        "goroutine",
		"/debug/pprof/cmdline": "test",
		"/debug/pprof/symbol":  "num_symbols",
	} {
		ask("GET", "/healthz", "") // it counts
		answer := ask("GET", path, "")
		if body, server := answer.Body.String(), answer.Header().Get("Server"); answer.Code != http.StatusOK || !strings.Contains(body, want) || server != ServerName {
			t.Errorf("%s: %d of %s: %s\nwant %q", path, answer.Code, server, body, want)
		}
	}
	defer func() { _, _ = logs.GlogSetter("0") }()
	for _, row := range []struct {
		method, level string
		want          int
	}{{"PUT", "3", http.StatusOK}, {"PUT", "much", http.StatusBadRequest}, {"GET", "", http.StatusNotAcceptable}} {
		if got := ask(row.method, "/debug/flags/v", row.level).Code; got != row.want || !klog.V(3).Enabled() {
			t.Errorf("%s of %q to /debug/flags/v: %d, want %d, and verbosity 3", row.method, row.level, got, row.want)
		}
	}
	o.Config.EnableProfiling = false
	handler = o.Handler()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/flags/v"} {
		if got := ask("GET", path, "").Code; got != http.StatusNotFound {
			t.Errorf("%s without --profiling: %d", path, got)
		}
	}
}
