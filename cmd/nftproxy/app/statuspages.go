// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/component-base/logs"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/restclient" // rest_client_* in legacyregistry, as kube-proxy has them
	"k8s.io/component-base/metrics/prometheus/slis"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/proxier/bounded"
)

// serverName is how nftproxy's status pages are told from kube-proxy's.
const serverName = "nftproxy"

// maxScrapes is how many may ask for /metrics at once: each has all of it in memory.
const maxScrapes = 8

// zpageHead is how /flagz and /statusz begin in kube-proxy.
const zpageHead = "\nkube-proxy %s\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\n"

// pages is a ServeMux that knows its paths.
type pages struct {
	http.ServeMux
	paths []string
}

// Handle serves a path.
func (p *pages) Handle(path string, handler http.Handler) {
	p.paths = append(p.paths, path)
	p.ServeMux.Handle(path, handler)
}

func (p *pages) text(path string, write func(w io.Writer)) {
	p.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		write(w)
	}))
}

// ServeHTTP implements http.Handler.
func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", serverName)
	p.ServeMux.ServeHTTP(w, r)
}

// statusPages serves what kube-proxy serves at its metrics address.
func (o *runOptions) statusPages(registry *prometheus.Registry) http.Handler {
	p := &pages{}
	// What the process and its API client do is in the libraries' own registry.
	p.Handle("/metrics", promhttp.HandlerFor(prometheus.Gatherers{registry, legacyregistry.DefaultGatherer}, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	slis.SLIMetricsWithReset{}.Install(p)
	for _, path := range []string{"/healthz", "/healthz/ping"} {
		p.text(path, func(w io.Writer) {
			_ = slis.ObserveHealthcheck(context.Background(), "ping", "healthz", slis.Success)
			fmt.Fprint(w, "ok")
		})
	}
	p.text("/proxyMode", func(w io.Writer) { fmt.Fprint(w, config.ModeNFTables) })
	p.Handle("/configz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"kubeproxy.config.k8s.io": &o.kubeProxy.Config})
	}))
	p.text("/flagz", func(w io.Writer) {
		fmt.Fprintf(w, zpageHead+"%s\n", "flagz", strings.Join(slices.Sorted(slices.Values(o.flags())), "\n"))
	})
	if o.kubeProxy.EnableProfiling {
		p.Handle("/debug/pprof/", bounded.Unhurried(http.HandlerFunc(pprof.Index))) // with ?seconds= a difference
		p.Handle("/debug/pprof/cmdline", http.HandlerFunc(pprof.Cmdline))
		p.Handle("/debug/pprof/profile", bounded.Unhurried(http.HandlerFunc(pprof.Profile)))
		p.Handle("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
		p.Handle("/debug/pprof/trace", bounded.Unhurried(http.HandlerFunc(pprof.Trace)))
		p.Handle("/debug/flags/v", http.HandlerFunc(setVerbosity))
	}
	p.text("/statusz", func(w io.Writer) {
		started := legacyregistry.GetProcessStart()
		fmt.Fprintf(w, zpageHead+"Started: %s\nUp: %s\nGo version: %s\nBinary version: %s\nConfinement: %s\nPaths: %s\n", "statusz",
			started.UTC().Format(time.UnixDate), time.Since(started).Round(time.Second), runtime.Version(), o.source.version, confinement("/", "self"),
			strings.Join(slices.Sorted(slices.Values(p.paths)), " "))
	})
	return p
}

// setVerbosity sets --v to what is PUT.
func setVerbosity(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		http.Error(w, "unsupported http method", http.StatusNotAcceptable)
		return
	}
	level, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100))
	if err == nil {
		var done string
		if done, err = logs.GlogSetter(string(level)); err == nil {
			fmt.Fprintln(w, done)
			return
		}
	}
	http.Error(w, err.Error(), http.StatusBadRequest)
}
