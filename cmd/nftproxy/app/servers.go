// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/proxier/bounded"
	"github.com/nftproxy/nftproxy/proxier/health"
	"github.com/nftproxy/nftproxy/rules"
)

// listenAgain is how long an address that cannot be had is left alone, as kube-proxy leaves it.
const listenAgain = 5 * time.Second

// servers are the HTTP servers of a run.
type servers struct {
	list    []*bounded.Server
	stop    context.CancelFunc
	serving sync.WaitGroup
}

// Close ends them. Their addresses are free then, for those that come next.
func (s *servers) Close() {
	s.stop()
	for _, server := range s.list {
		_ = server.Close()
	}
	s.serving.Wait()
}

// How many connections each address has at most; a new one takes the place of an old one.
const (
	healthConnections  = 128
	metricsConnections = 64
	probeConnections   = 64
)

// servers returns options whose addresses are of families that the node has: those that stand for all addresses, or for the
// loopback one, have the same in the other family.
func (o *runOptions) servers(missing [2]bool) *runOptions {
	out := *o
	for _, address := range []*string{&out.kubeProxy.HealthzBindAddress, &out.kubeProxy.MetricsBindAddress, &out.probeAddress} {
		at, err := netip.ParseAddrPort(*address)
		if err != nil || !missing[rules.FamilyOf(at.Addr().Unmap())] {
			continue
		}
		other := map[netip.Addr]netip.Addr{netip.IPv6Unspecified(): netip.IPv4Unspecified(), netip.IPv6Loopback(): netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		if at.Addr().Is4() {
			other = map[netip.Addr]netip.Addr{netip.IPv4Unspecified(): netip.IPv6Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1}): netip.IPv6Loopback()}
		}
		if a, ok := other[at.Addr()]; ok {
			*address = netip.AddrPortFrom(a, at.Port()).String()
		}
	}
	return &out
}

// serve serves health, metrics and what else kube-proxy shows, and probes. An address that cannot
// be had is asked for again: it may be kube-proxy's, which is about to go. With
// --bind-address-hard-fail it is an error, and warn gets an Event's reason, as kube-proxy's.
func (o *runOptions) serve(log klog.Logger, warn func(reason, message string), alive *health.Proxy, own ...prometheus.Collector) (*servers, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(append(own, alive)...)
	ctx, stop := context.WithCancel(context.Background())
	all := &servers{stop: stop}
	for _, s := range []struct {
		address, what, flag, event string
		connections                int
		handler                    http.Handler
	}{
		{o.kubeProxy.HealthzBindAddress, "health", "--healthz-bind-address", "FailedToStartProxierHealthcheck", healthConnections, alive.Handler()},
		{o.kubeProxy.MetricsBindAddress, "metrics", "--metrics-bind-address", "FailedToStartMetricServer", metricsConnections, o.statusPages(registry)},
		{o.probeAddress, "probes", "--probe-bind-address", "FailedToStartProbes", probeConnections, alive.ProbeHandler()},
	} {
		if s.address == "" {
			continue
		}
		server := bounded.NewPool(bounded.Share(s.connections)).Server(s.handler)
		all.list = append(all.list, server)
		l, err := net.Listen("tcp", s.address)
		switch {
		case err == nil:
			all.serving.Go(func() { _ = server.Serve(l) })
		case o.kubeProxy.BindAddressHardFail:
			all.Close()
			warn(s.event, err.Error())
			return nil, fmt.Errorf("--bind-address-hard-fail: %w", err)
		default:
			log.Error(err, "Address not to be had: trying again until it is; "+s.flag+" chooses another", "for", s.what, "every", listenAgain)
			all.serving.Go(func() {
				if l := listenLater(ctx, s.address); l != nil {
					log.Info("Address taken", "address", s.address, "for", s.what)
					_ = server.Serve(l)
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
			if l, err := net.Listen("tcp", address); err == nil {
				return l
			}
		}
	}
}
