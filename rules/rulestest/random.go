// SPDX-License-Identifier: Apache-2.0

package rulestest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// World is a set of service ports with endpoints that changes at random. The same
// seed gives the same changes.
type World struct {
	// Affinity makes some services sticky. Default: true.
	Affinity bool
	// Count has connections counted. Default: false.
	Count bool

	rand     *rand.Rand
	services map[rules.Owner]worldService
}

type worldService struct {
	port      rules.ServicePort
	endpoints []rules.Endpoint
}

// NewWorld returns a world without services.
func NewWorld(seed uint64) *World {
	return &World{Affinity: true, rand: rand.New(rand.NewPCG(seed, 0)), services: map[rules.Owner]worldService{}}
}

// Step changes some service ports and returns what they are to have then.
func (w *World) Step() []rules.Owned {
	changed := map[rules.Owner]rules.Owned{}
	for range 1 + w.rand.IntN(4) {
		o := w.owner()
		w.change(o)
		changed[o] = w.owned(o)
	}
	return slices.Collect(maps.Values(changed))
}

// All returns what all service ports are to have.
func (w *World) All() []rules.Owned {
	var out []rules.Owned
	for o := range w.services {
		out = append(out, w.owned(o))
	}
	return out
}

func (w *World) owned(o rules.Owner) rules.Owned {
	s := w.services[o]
	return rules.Owned{Owner: o, Objects: rules.Build(s.port, s.endpoints, w.Config(), w.Node())}
}

// owner picks one of a few, so that the same ones change again and again.
func (w *World) owner() rules.Owner {
	n := w.rand.IntN(12)
	return rules.Owner{
		ServicePortName: rules.ServicePortName{Namespace: "test", Name: fmt.Sprintf("svc-%d", n/3), Port: []string{"", "http", "dns"}[n%3]},
		Family:          rules.Families[w.rand.IntN(2)],
	}
}

func (w *World) change(o rules.Owner) {
	s, ok := w.services[o]
	switch {
	case !ok || w.rand.IntN(5) == 0: // new, or with another protocol
		s.port = w.servicePort(o)
		s.endpoints = w.endpoints(o.Family)
	case w.rand.IntN(4) == 0:
		delete(w.services, o)
		return
	default:
		s.endpoints = w.endpoints(o.Family)
	}
	w.services[o] = s
}

// Config returns what holds for all services of the world.
func (w *World) Config() rules.Config {
	return rules.Config{
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd01::/64")},
		AffinitySize: 1000, CountConnections: w.Count,
	}.WithDefaults()
}

// Node returns the node on which all objects are built.
func (w *World) Node() rules.Node {
	return rules.Node{
		Name: "node", Zone: "a",
		IPs:          [2]netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00::2")},
		NodePortIPs:  []netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00::2")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")},
	}
}

// servicePort gives all ports of a service the same addresses, and each owner
// frontends that no other has.
func (w *World) servicePort(o rules.Owner) rules.ServicePort {
	n := o.Name[len(o.Name)-1] - '0'
	schedulers := append([]rules.Scheduler{rules.RoundRobin}, rules.Schedulers()...) // that one more often
	sp := rules.ServicePort{
		Name: o.ServicePortName, Family: o.Family, ClusterIP: worldAddr(o.Family, 96, n),
		Port:     80 + uint16(len(o.Port)),
		Protocol: rules.AllProtocols[w.rand.IntN(len(rules.AllProtocols))],
		Policies: rules.Policies{InternalLocal: w.chance(4), ExternalLocal: w.chance(2), Scheduler: schedulers[w.rand.IntN(len(schedulers))],
			TableSize: 13, LocalWeight: uint16(w.rand.IntN(3)), ZoneWeight: uint16(w.rand.IntN(3))},
	}
	if w.chance(2) {
		sp.NodePort = 30000 + uint16(n)*10 + uint16(len(o.Port))
	}
	if w.chance(3) {
		sp.ExternalIPs = []netip.Addr{worldAddr(o.Family, 97, n)}
	}
	if w.chance(2) {
		sp.LoadBalancerIPs = []netip.Addr{worldAddr(o.Family, 98, n), worldAddr(o.Family, 99, n)}
	}
	if w.chance(2) {
		for range 1 + w.rand.IntN(3) {
			p, _ := worldAddr(o.Family, 172, byte(w.rand.IntN(8))).Prefix(8 + w.rand.IntN(24))
			sp.SourceRanges = append(sp.SourceRanges, p)
		}
	}
	if w.chance(3) && w.Affinity {
		sp.Affinity = uint32(1 + w.rand.IntN(10800))
	}
	return sp
}

// chance is true once in n times.
func (w *World) chance(n int) bool { return w.rand.IntN(n) == 0 }

func worldAddr(f rules.Family, net, n byte) netip.Addr {
	if f == rules.IPv6 {
		return netip.AddrFrom16([16]byte{0xfd, net, 15: n + 1})
	}
	return netip.AddrFrom4([4]byte{10, net, 0, n + 1})
}

func (w *World) endpoints(f rules.Family) []rules.Endpoint {
	out := make([]rules.Endpoint, w.rand.IntN(6))
	for i := range out {
		n := byte(1 + w.rand.IntN(8))
		ip := netip.AddrFrom4([4]byte{10, 244, 1, n})
		if f == rules.IPv6 {
			ip = netip.AddrFrom16([16]byte{0xfd, 1, 15: n})
		}
		out[i] = rules.Endpoint{
			Addr:  netip.AddrPortFrom(ip, 8080+uint16(w.rand.IntN(2))),
			Ready: w.rand.IntN(4) != 0, Serving: w.rand.IntN(2) == 0, Terminating: w.rand.IntN(2) == 0,
			Local: w.chance(2),
		}
		if w.chance(4) {
			out[i].Weight, out[i].Zone = uint32(w.rand.IntN(4)), "a"
			out[i].Idle, out[i].Warm, out[i].Open = w.chance(3), uint8(w.rand.IntN(3)), uint32(w.rand.IntN(20))
			out[i].Settling = w.chance(3)
		}
		if w.chance(2) {
			out[i].ZoneHints = []string{[]string{"a", "b"}[w.rand.IntN(2)]}
		}
	}
	return out
}
