// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
)

// Share is what an endpoint gets of a traffic policy's new connections, and why. Its zero value: as much as each of the others.
type Share struct {
	// Slots is how many of Of slots lead to the endpoint.
	Slots, Of int
	// Weight is the endpoint's weight, of the sum of all.
	Weight, Sum uint64
	// Times is what the place of the endpoint has multiplied its weight by.
	Times uint32
	// Warm is how many tenths of its weight count; 0: all.
	Warm uint8
	// Rounded says that it is not just what the weight asks for.
	Rounded bool
}

// sharesOf returns the shares of endpoints that were selected; nil: all have the same.
func sharesOf(sp *ServicePort, list []Endpoint, n *Node) map[netip.AddrPort]Share {
	c := Config{}.WithDefaults()
	laid := layOut(sp, list, &c)
	if laid == nil {
		return nil
	}
	sum, counts := uint64(0), laid.counts(len(list))
	for i := range list {
		sum += uint64(list[i].weight())
	}
	out := make(map[netip.AddrPort]Share, len(list))
	for i := range list {
		e := &list[i]
		weight := uint64(e.weight())
		out[e.Addr] = Share{Slots: counts[i], Of: len(laid), Weight: weight, Sum: sum, Times: sp.factor(e, n), Warm: e.Warm,
			Rounded: uint64(counts[i])*sum != weight*uint64(len(laid))} //nolint:gosec // counts are positive
	}
	return out
}

// Follow takes over from a kernel how the slots of a service port are laid out that has a scheduler that counts: nobody else knows how
// many connections were open then. It changes the state and returns the service port's objects, where they are as the
// scheduler may have laid them out.
func (s *State) Follow(have State, sp *ServicePort, o Objects) Objects {
	t, h := s.Tables[sp.Family], have.Tables[sp.Family]
	if !sp.Scheduler.Counts() || t == nil || h == nil {
		return o
	}
	o.Sets = slices.Clone(o.Sets)
	for i, se := range o.Sets {
		if se.Set.Kind != Endpoints {
			continue
		}
		se.Elements = slices.Clone(se.Elements)
		known := map[Value]bool{}
		for _, e := range se.Elements {
			known[e.Value] = true
		}
		for j, e := range se.Elements {
			there, ok := h.Sets[se.Set][e.Key]
			if ok && known[there] {
				se.Elements[j].Value = there
				t.Sets[se.Set][e.Key] = there
			}
		}
		o.Sets[i] = se
	}
	return o
}

// SlotsOf returns how many of the slots of a service port's own chain lead to an endpoint.
func (o Objects) SlotsOf(chain ChainID, to netip.AddrPort) (slots, of int) {
	id := identify(chain.Name())
	for _, se := range o.Sets {
		if se.Set != id.set {
			continue
		}
		for _, e := range se.Elements {
			if !id.has(se.Set, e.Key) {
				continue
			}
			if of++; e.To == to {
				slots++
			}
		}
	}
	return slots, of
}

// Choices returns numbers that lead to each endpoint at least once, whatever frontend or policy they are chosen for: all that somebody
// has to try who wants to see them all.
func (o Objects) Choices() []uint32 {
	type choice struct {
		key Key // without the number
		to  netip.AddrPort
	}
	seen := map[choice]bool{}
	var out []uint32
	for _, se := range o.Sets {
		if se.Set.Kind != Endpoints && se.Set.Kind != Backends {
			continue
		}
		for _, e := range se.Elements {
			c, n := choice{e.Key, e.To}, e.Key.Index
			if se.Set.Kind == Endpoints {
				n &= 1<<16 - 1
			}
			if c.key.Index -= n; !seen[c] {
				seen[c] = true
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
