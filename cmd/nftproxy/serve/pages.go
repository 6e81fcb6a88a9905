// SPDX-License-Identifier: Apache-2.0

package serve

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

// ServerName is the header Server of nftproxy's pages, which tells them from kube-proxy's.
const ServerName = "nftproxy"

// maxScrapes is how many may ask for /metrics at once: each has all of it in memory.
const maxScrapes = 8

// zpageHead is how /flagz and /statusz begin in kube-proxy.
const zpageHead = "\nkube-proxy %s\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\n"

// mux is a ServeMux that knows its paths.
type mux struct {
	http.ServeMux
	paths []string
}

// Handle serves a path.
func (p *mux) Handle(path string, handler http.Handler) {
	p.paths = append(p.paths, path)
	p.ServeMux.Handle(path, handler)
}

func (p *mux) text(path string, write func(w io.Writer)) {
	p.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		write(w)
	}))
}

// ServeHTTP implements http.Handler.
func (p *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", ServerName)
	p.ServeMux.ServeHTTP(w, r)
}

// Pages is what kube-proxy serves at its metrics address.
type Pages struct {
	// Metrics is for /metrics, beside what the process and its API client do.
	Metrics prometheus.Gatherer
	// Config is for /configz; it says whether there are profiles.
	Config *config.Config
	// Flags gives all flags with their values, for /flagz.
	Flags func() []string
	// Version is nftproxy's, for /statusz.
	Version string
	// Confinement says which rights this process has, for /statusz.
	Confinement func() string
}

// Handler serves the pages.
func (o Pages) Handler() http.Handler {
	p := &mux{}
	// What the process and its API client do is in the libraries' own registry.
	p.Handle("/metrics", promhttp.HandlerFor(prometheus.Gatherers{o.Metrics, legacyregistry.DefaultGatherer}, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
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
		_ = json.NewEncoder(w).Encode(map[string]any{"kubeproxy.config.k8s.io": o.Config})
	}))
	p.text("/flagz", func(w io.Writer) {
		fmt.Fprintf(w, zpageHead+"%s\n", "flagz", strings.Join(slices.Sorted(slices.Values(o.Flags())), "\n"))
	})
	if o.Config.EnableProfiling {
		p.profiles()
	}
	p.text("/statusz", func(w io.Writer) {
		started := legacyregistry.GetProcessStart()
		fmt.Fprintf(w, zpageHead+"Started: %s\nUp: %s\nGo version: %s\nBinary version: %s\nConfinement: %s\nPaths: %s\n", "statusz",
			started.UTC().Format(time.UnixDate), time.Since(started).Round(time.Second), runtime.Version(), o.Version, o.Confinement(),
			strings.Join(slices.Sorted(slices.Values(p.paths)), " "))
	})
	return p
}

// profiles serves what --profiling is for.
func (p *mux) profiles() {
	p.Handle("/debug/pprof/", bounded.Unhurried(http.HandlerFunc(pprof.Index))) // with ?seconds= a difference
	p.Handle("/debug/pprof/cmdline", http.HandlerFunc(pprof.Cmdline))
	p.Handle("/debug/pprof/profile", bounded.Unhurried(http.HandlerFunc(pprof.Profile)))
	p.Handle("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
	p.Handle("/debug/pprof/trace", bounded.Unhurried(http.HandlerFunc(pprof.Trace)))
	p.Handle("/debug/flags/v", http.HandlerFunc(setVerbosity))
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
