// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// endpoint is a ready endpoint of a Service.
type endpoint struct {
	at   netip.AddrPort
	node string
}

// endpoints returns the ready endpoints that a Service has by its EndpointSlices, in a family.
func (s *site) endpoints(ctx context.Context, service string, f netns.Family) ([]endpoint, error) {
	list, err := s.Client().DiscoveryV1().EndpointSlices(shop).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return nil, err
	}
	var out []endpoint
	for _, slice := range list.Items {
		if string(slice.AddressType) != f.String() {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				at := netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), uint16(*slice.Ports[0].Port))
				out = append(out, endpoint{at, *e.NodeName})
			}
		}
	}
	return out, nil
}

// backends returns the ready endpoints of a Service in a family. They must be its ready
// pods, and pods of the Deployment must be among them on each living node.
func (s *site) backends(ctx context.Context, service string, f netns.Family) ([]netip.AddrPort, error) {
	endpoints, err := s.endpoints(ctx, service, f)
	if err != nil {
		return nil, err
	}
	pods, err := s.pods(ctx, "service=web")
	if err != nil {
		return nil, err
	}
	var want, got []netip.AddrPort
	spread := map[string]int{}
	for _, p := range pods {
		if !ready(p) {
			continue
		}
		want = append(want, netip.AddrPortFrom(podAddr(p, f), backendPort))
		if p.Labels["app"] == "web" {
			spread[p.Spec.NodeName]++
		}
	}
	for _, e := range endpoints {
		got = append(got, e.at)
	}
	slices.SortFunc(want, netip.AddrPort.Compare)
	slices.SortFunc(got, netip.AddrPort.Compare)
	if !slices.Equal(got, want) {
		return nil, fmt.Errorf("the ready endpoints of Service %s are %v, the ready pods %v", service, got, want)
	}
	for _, n := range s.living() {
		if spread[n.Name()] == 0 {
			return nil, fmt.Errorf("no ready web pod is on %s: %v", n.Name(), spread)
		}
	}
	return got, nil
}

func podAddr(p corev1.Pod, f netns.Family) netip.Addr {
	for _, ip := range p.Status.PodIPs {
		if a := netip.MustParseAddr(ip.IP); a.Is6() == (f == netns.IPv6) {
			return a
		}
	}
	return netip.Addr{}
}

// route is a way to the backends through a Service.
type route struct {
	from    *netns.NS
	service string
	to      netip.AddrPort
}

func (r route) String() string {
	return fmt.Sprintf("from %s to %s at %s", r.from.Name(), r.service, r.to)
}

// routes lists the ways in a family: the ClusterIPs from pods and nodes, the NodePort of
// every living node from everywhere.
func (s *site) routes(f netns.Family) []route {
	s.t.Helper()
	var list []route
	inside := slices.Clone(s.clients)
	for _, n := range s.living() {
		inside = append(inside, n.NS)
	}
	for _, service := range []string{"web", "web-nodeport"} {
		svc, err := s.Client().CoreV1().Services(shop).Get(s.t.Context(), service, metav1.GetOptions{})
		must(s.t, err)
		for _, ip := range svc.Spec.ClusterIPs {
			a := netip.MustParseAddr(ip)
			for _, ns := range inside {
				if a.Is6() == (f == netns.IPv6) {
					list = append(list, route{ns, service, netip.AddrPortFrom(a, servicePort)})
				}
			}
		}
	}
	for _, n := range s.living() {
		for _, ns := range append(slices.Clone(inside), s.Network.Outside.NS) {
			list = append(list, route{ns, "web-nodeport", netip.AddrPortFrom(n.Addr(f), nodePort)})
		}
	}
	return list
}

// want waits until all ways lead to all backends and nobody else, in exact round robin.
func (s *site) want(timeout time.Duration) {
	s.t.Helper()
	ways, hits := 0, map[string]int{}
	for _, f := range netns.Families() {
		for _, r := range s.routes(f) {
			for _, p := range traffic.Protocols() {
				must(s.t, Poll(s.t.Context(), timeout, func(ctx context.Context) error {
					backends, err := s.backends(ctx, r.service, f)
					if err != nil {
						return err
					}
					return exact(ctx, r, p, backends)
				}))
				ways++
			}
		}
		endpoints, err := s.endpoints(s.t.Context(), "web", f)
		must(s.t, err)
		for _, e := range endpoints {
			hits[e.node]++
		}
	}
	s.t.Logf("%d ways lead to all endpoints in exact round robin; the endpoints of both families by node: %v", ways, hits)
}

func exact(ctx context.Context, r route, p traffic.Protocol, backends []netip.AddrPort) error {
	n := 2 * len(backends)
	client := traffic.Client{NS: r.from}
	tally, err := traffic.Spread(ctx, n, func(ctx context.Context) traffic.Result { return client.Connect(ctx, p, r.to) })
	if err != nil {
		return err
	}
	if err := traffic.ExactRoundRobin(tally.Hits, backends, n); err != nil {
		return fmt.Errorf("%s %s: %w (last error: %w)", p, r, err, tally.LastErr)
	}
	return nil
}

// headless: nftproxy programs nothing for a Service without a ClusterIP. Its clients know the endpoints, from
// its EndpointSlices or DNS, and reach each one itself: the endpoint sees the client's own address.
func (s *site) headless() {
	const name = "web-headless"
	s.unknown(name)
	reached := 0
	for _, f := range netns.Families() {
		var backends []netip.AddrPort
		must(s.t, Poll(s.t.Context(), stepTimeout, func(ctx context.Context) (err error) {
			backends, err = s.backends(ctx, name, f)
			return err
		}))
		for _, to := range backends {
			for _, from := range append(slices.Clone(s.clients), s.Nodes[0].NS, s.Nodes[1].NS) {
				r := traffic.Client{NS: from}.Connect(s.t.Context(), traffic.TCP, to)
				if r.Outcome != traffic.Answered || r.Backend != to || r.Peer != r.Local {
					s.t.Errorf("from %s, %s, to %s: %v", from.Name(), r.Local, to, r)
				}
				reached++
			}
		}
	}
	s.t.Logf("%d ways lead to an endpoint itself", reached)
}
