// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
	"slices"
)

// ObjectsOf returns the objects of a service port in a table that was read from the kernel: its chains, what goes to
// them, and what else has the keys of objects that it should have. It returns nothing where a chain is not as we make them.
func (t *Table) ObjectsOf(n ServicePortName, want Objects) Objects {
	h := finder{have: t, chains: map[string]Chain{}, sets: map[SetID][]Element{}}
	h.named = func(o ServicePortName) bool { return o == n }
	h.expectFrontends(want.Frontends(IPv4)) // the keys of NodePorts do not depend on the family
	for name, c := range t.Chains {
		if h.chain(name) {
			h.chains[name] = c
		}
	}
	h.frontends()
	h.endpoints()
	h.shared(want)
	for id := range t.Sets {
		if id.Kind.Interval() && h.set(id) {
			h.sets[id] = sortedElements(t.Sets[id])
		}
	}
	return h.objects()
}

// finder collects what ObjectsOf returns.
type finder struct {
	ownership
	have   *Table
	chains map[string]Chain
	sets   map[SetID][]Element
}

// take takes the owner's elements of a set.
func (h *finder) take(id SetID) {
	for k, v := range h.have.Sets[id] {
		if h.element(id, k, v) {
			h.sets[id] = append(h.sets[id], Element{k, v})
		}
	}
}

// frontends finds where the service port is served: under the keys that it should have, and by its chains. It finds the
// chains of others that its frontends go to.
func (h *finder) frontends() {
	for _, id := range slices.Concat(SetsOf(Frontend{}), SetsOf(NodePort(IPv4, 0, 0))) {
		h.take(id)
		for _, e := range h.sets[id] {
			if c, ok := h.have.Chains[e.Goto]; ok && !e.Refuses() {
				h.chains[e.Goto] = c
			}
		}
	}
}

// endpoints finds those of the chains and frontends that were found.
func (h *finder) endpoints() {
	sets := map[SetID]bool{}
	for name := range h.chains {
		h.chooses(name)
		id := identify(name)
		sets[id.set], sets[id.stay()], sets[SetID{Kind: Silent}] = true, true, true
	}
	for id := range sets {
		h.take(id)
	}
	dispatched, backends := map[Key]bool{}, SetID{Kind: Backends}
	for _, e := range h.sets[SetID{Kind: ServiceIPs}] {
		dispatched[e.Key] = true
	}
	for k, v := range h.have.Sets[backends] {
		frontend := k
		frontend.Index = 0
		if dispatched[frontend] {
			h.sets[backends] = append(h.sets[backends], Element{k, v})
		}
	}
}

// shared finds elements that the service port may share with others.
func (h *finder) shared(want Objects) {
	for _, se := range want.Sets {
		if se.Set.Kind.row().owners != shared {
			continue
		}
		for _, e := range se.Elements {
			if v, ok := h.have.Sets[se.Set][e.Key]; ok {
				h.sets[se.Set] = append(h.sets[se.Set], Element{e.Key, v})
			}
		}
	}
}

// objects puts all in order.
func (h *finder) objects() Objects {
	var out Objects
	for _, name := range slices.Sorted(maps.Keys(h.chains)) {
		c := h.chains[name]
		for _, r := range c.Rules {
			if slices.ContainsFunc(r, func(s Statement) bool { _, unknown := s.(Unknown); return unknown }) {
				return Objects{}
			}
		}
		if h.chain(name) {
			out.Chains = append(out.Chains, c)
		} else {
			out.Shared = append(out.Shared, c)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(h.sets), SetID.compare) {
		elements := h.sets[id]
		slices.SortFunc(elements, func(a, b Element) int { return a.Key.compare(b.Key) })
		out.Sets = append(out.Sets, SetElements{id, elements})
	}
	for _, id := range slices.SortedFunc(maps.Keys(h.have.Affinity), SetID.compare) {
		if h.set(id) {
			out.Affinity = append(out.Affinity, AffinityMap{Set: id, Size: h.have.Affinity[id].Size})
		}
	}
	if len(out.Sets) == 0 || !out.whole() {
		return Objects{}
	}
	return out
}

// whole says whether all is there that the chains refer to. In the middle of a transaction a chain may have lost its
// endpoints: kept without the set that they were in, it would be in the way of that set's deletion.
func (o *Objects) whole() bool {
	chains, sets := map[string]bool{}, map[SetID]bool{}
	for _, s := range o.Sets {
		sets[s.Set] = len(s.Elements) > 0
	}
	for _, m := range o.Affinity {
		sets[m.Set] = true
	}
	all := slices.Concat(o.Chains, o.Shared)
	for _, c := range all {
		chains[c.Name] = true
	}
	for _, c := range all {
		for _, r := range c.Rules {
			for _, st := range r {
				to := refersTo(st)
				if to.chain != "" && !chains[to.chain] && !ParseChainID(to.chain).Role.row().common {
					return false
				}
				if slices.ContainsFunc(to.sets, func(id SetID) bool { return !sets[id] && comesAndGoes(id) }) {
					return false
				}
			}
		}
	}
	return true
}

// comesAndGoes says that a set is there only while somebody has something in it.
func comesAndGoes(id SetID) bool { return id.Kind.row().onDemand || id.Kind.Dynamic() }
