// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/proxier/health"
)

// listenAgain is how long an address that cannot be had is left alone, as kube-proxy leaves it.
const listenAgain = 5 * time.Second

// servers are the HTTP servers of a run.
type servers struct {
	list    []*http.Server
	stop    context.CancelFunc
	waiting sync.WaitGroup // those that have no address yet
}

// Close ends them.
func (s *servers) Close() {
	s.stop()
	for _, server := range s.list {
		_ = server.Close()
	}
	s.waiting.Wait()
}

// serve serves health, metrics and what else kube-proxy shows, and probes. An address that cannot
// be had is asked for again: it may be kube-proxy's, which is about to go. With
// --bind-address-hard-fail it is an error.
func (o *runOptions) serve(log klog.Logger, alive *health.Proxy, own ...prometheus.Collector) (*servers, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), alive)
	registry.MustRegister(own...)
	registry.MustRegister(clientMetrics()...)
	ctx, stop := context.WithCancel(context.Background())
	all := &servers{stop: stop}
	for _, s := range []struct {
		address, what, flag string
		handler             http.Handler
	}{
		{o.healthzAddress, "health", "--healthz-bind-address", alive.Handler()},
		{o.metricsAddress, "metrics", "--metrics-bind-address", o.statusPages(registry)},
		{o.probeAddress, "probes", "--probe-bind-address", alive.ProbeHandler()},
	} {
		if s.address == "" {
			continue
		}
		server := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second}
		all.list = append(all.list, server)
		l, err := listen(s.address)
		switch {
		case err == nil:
			go func() { _ = server.Serve(l) }()
		case o.hardFail:
			all.Close()
			return nil, fmt.Errorf("--bind-address-hard-fail: %w", err)
		default:
			log.Error(err, "Address not to be had: trying again until it is; "+s.flag+" chooses another", "for", s.what, "every", listenAgain)
			all.waiting.Go(func() {
				if l := listenLater(ctx, s.address); l != nil {
					log.Info("Address taken", "address", s.address, "for", s.what)
					go func() { _ = server.Serve(l) }()
				}
			})
		}
	}
	return all, nil
}

// listenLater listens once the address can be had; nil if ctx ends before.
func listenLater(ctx context.Context, address string) net.Listener {
	again := time.NewTicker(listenAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			if l, err := listen(address); err == nil {
				return l
			}
		}
	}
}

func listen(address string) (net.Listener, error) {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "0.0.0.0" {
		address = ":" + port // IPv6, too: a node may have nothing else
	}
	return net.Listen("tcp", address)
}
