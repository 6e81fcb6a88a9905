// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// A service's endpoints may be spread over several EndpointSlices, and some of
// these may hold what cannot be used.
func TestSlices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{ports: []uint16{9001}})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	rows := []struct {
		name string
		// slices returns those of one family.
		slices func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice
		want   expected
		logs   string // what is said about a slice
	}{
		{"two slices", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			return slicesOf(s, f, ready(a), ready(b, c))
		}, spread(a, b, c), ""},
		{"an endpoint in both of them", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			return slicesOf(s, f, ready(a, b), ready(b, c), ready(b))
		}, spread(a, b, c), ""},
		{"an endpoint twice in one", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			return slicesOf(s, f, ready(a, b, b))
		}, spread(a, b), ""},
		{"an endpoint ready in one only", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			return slicesOf(s, f, ready(a), unready(a, b), draining(c))
		}, spread(a), ""},
		{"a terminating endpoint whose address a running pod has", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			return slicesOf(s, f, draining(a), ready(a, b), draining(b))
		}, spread(a, b), ""},
		{"one whose address a pod has that is not ready", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			return slicesOf(s, f, draining(a), unready(a), draining(b))
		}, spread(b), ""},
		{"that and no other endpoint", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			return slicesOf(s, f, unready(a), draining(a))
		}, refused(), ""},
		{"an empty one", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			return slicesOf(s, f, ready(a, b), nil)
		}, spread(a, b), ""},
		{"ports that differ", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			list := slicesOf(s, f, ready(a), ready(b))
			for i := range list[1].Ports {
				list[1].Ports[i].Port = new(int32(9001))
			}
			return list
		}, spread(a).and(9001, b), ""},
		{"one without the port", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			list := slicesOf(s, f, ready(a), ready(b))
			for i := range list[1].Ports {
				list[1].Ports[i].Name = new("another-" + *list[1].Ports[i].Name)
			}
			return list
		}, spread(a), ""},
		{"one whose ports have no number", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			list := slicesOf(s, f, ready(a), ready(b))
			for i := range list[1].Ports {
				list[1].Ports[i].Port = nil
			}
			return list
		}, spread(a), ""},
		{"an address of the other family", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			list := slicesOf(s, f, ready(a, b))
			list[0].Endpoints[1].Addresses[0] = b.Addr(netns.IPv4 + netns.IPv6 - f).String()
			return list
		}, spread(a), "is not of the slice's address type"},
		{"an address that is none", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			list := slicesOf(s, f, ready(a, b))
			list[0].Endpoints[0].Addresses[0] = "pod-" + f.String()
			return list
		}, spread(b), "is not an IP address"},
		{"host names", func(s *svc, f netns.Family) []*discoveryv1.EndpointSlice {
			list := slicesOf(s, f, ready(a), ready(b))
			list[1].AddressType = discoveryv1.AddressTypeFQDN
			list[1].Endpoints[0].Addresses[0] = "example.com"
			return list
		}, spread(a), ""},
	}
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.service(nameOf(r.name))
		for _, f := range netns.Families() {
			services[i].add(r.slices(services[i], f)...)
		}
	}
	w.apply(t, services...)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			w.wantEverywhere(t, services[i], r.want)
			if r.logs != "" {
				w.wantSkipped(t, services[i].Name, r.logs)
			}
		})
	}
}

// slicesOf makes a slice for each list of endpoints.
func slicesOf(s *svc, f netns.Family, lists ...[]endpoint) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for i, list := range lists {
		out = append(out, s.slice(nameOf(f.String())+"-"+string(rune('a'+i)), f, list))
	}
	return out
}

// wantSkipped looks for a message of each family's slice of a service.
func (w *world) wantSkipped(t *testing.T, service, text string) {
	t.Helper()
	for _, f := range netns.Families() {
		name := "endpointslice test/" + service + "-" + nameOf(f.String())
		eventually(t, "a message", func() error { // the log may come later than what was programmed
			if !hasLine(w.nftproxy.Log(), name, text) {
				return fmt.Errorf("no message about %s that says %s", name, text)
			}
			return nil
		})
	}
}
