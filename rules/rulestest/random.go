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
	rand     *rand.Rand
	services map[rules.Owner]worldService
}

type worldService struct {
	port      rules.ServicePort
	endpoints []rules.Endpoint
}

// NewWorld returns a world without services.
func NewWorld(seed uint64) *World {
	return &World{rand: rand.New(rand.NewPCG(seed, 0)), services: map[rules.Owner]worldService{}}
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
	return rules.Owned{Owner: o, Objects: rules.Build(s.port, s.endpoints)}
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

// servicePort gives all ports of a service one ClusterIP, and each owner a
// frontend that no other has.
func (w *World) servicePort(o rules.Owner) rules.ServicePort {
	n := o.Name[len(o.Name)-1]
	ip := netip.AddrFrom4([4]byte{10, 96, 0, n})
	if o.Family == rules.IPv6 {
		ip = netip.AddrFrom16([16]byte{0xfd, 0, 15: n})
	}
	return rules.ServicePort{
		Name: o.ServicePortName, ClusterIP: ip, Port: 80 + uint16(len(o.Port)),
		Protocol: []rules.Protocol{rules.TCP, rules.UDP, rules.SCTP}[w.rand.IntN(3)],
	}
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
			Local: w.rand.IntN(2) == 0,
		}
	}
	return out
}
