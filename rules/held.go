// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
	"slices"
	"strings"
)

// Held returns what of a service port a table holds that was read from the kernel: its chains, what goes to
// them, and what else has the keys of objects that it should have. It returns nothing where a chain is not as we make them.
func (t *Table) Held(n ServicePortName, want Objects) Objects {
	h := held{have: t, suffix: suffix(n), chains: map[string]Chain{}, sets: map[SetID][]Element{}}
	for name, c := range t.Chains {
		if h.owns(name) {
			h.chains[name] = c
		}
	}
	h.frontends(want.frontendKeys())
	h.endpoints()
	h.shared(want)
	for id := range t.Sets {
		if id.Kind == Sources && h.owns(id.Name()) {
			h.sets[id] = sortedElements(t.Sets[id])
		}
	}
	return h.objects()
}

// held collects what Held returns.
type held struct {
	have   *Table
	suffix string
	chains map[string]Chain
	sets   map[SetID][]Element
}

// owns says whether a name is that of a chain or a set of the service port.
func (h *held) owns(name string) bool {
	prefix, ok := strings.CutSuffix(name, h.suffix)
	return ok && !strings.Contains(prefix, "/")
}

// frontends finds where the service port is served: under the keys that it should have, and by its chains.
func (h *held) frontends(want map[Key]bool) {
	for _, kind := range []SetKind{Single, ServiceIPs, SingleNodePorts, NodePorts, Sticky, StickyNodePorts, MasqueradeIPs, MasqueradeNodePorts} {
		id := SetID{Kind: kind}
		for k, v := range h.have.Sets[id] {
			ours := h.owns(v.Goto)
			if !ours && !want[k] {
				continue
			}
			h.sets[id] = append(h.sets[id], Element{k, v})
			if c, ok := h.have.Chains[v.Goto]; ok && !ours && v.Goto != chainNoEndpoints && v.Goto != chainNoLocalEndpoints {
				h.chains[v.Goto] = c
			}
		}
	}
}

// frontendKeys returns the keys of the frontends that the objects serve.
func (o Objects) frontendKeys() map[Key]bool {
	out := map[Key]bool{}
	for _, fr := range o.Frontends(IPv4) {
		out[fr.Key()] = true
	}
	return out
}

// endpoints finds those of the chains and frontends that were found.
func (h *held) endpoints() {
	for name := range h.chains {
		id := identify(name)
		for _, set := range []SetID{id.set, id.stay()} {
			for k, v := range h.have.Sets[set] {
				if id.has(set, k) {
					h.sets[set] = append(h.sets[set], Element{k, v})
				}
			}
		}
	}
	frontends := Objects{Sets: []SetElements{{SetID{Kind: ServiceIPs}, h.sets[SetID{Kind: ServiceIPs}]}}}.frontendKeys()
	for k, v := range h.have.Sets[SetID{Kind: Backends}] {
		frontend := k
		frontend.Index = 0
		if frontends[frontend] {
			h.sets[SetID{Kind: Backends}] = append(h.sets[SetID{Kind: Backends}], Element{k, v})
		}
	}
}

// shared finds elements that the service port may share with others.
func (h *held) shared(want Objects) {
	for _, se := range want.Sets {
		if !se.Set.Kind.shared() {
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
func (h *held) objects() Objects {
	var out Objects
	for _, name := range slices.Sorted(maps.Keys(h.chains)) {
		c := h.chains[name]
		for _, r := range c.Rules {
			if slices.ContainsFunc(r, func(s Statement) bool { _, unknown := s.(Unknown); return unknown }) {
				return Objects{}
			}
		}
		if h.owns(name) {
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
		if h.owns(id.Name()) {
			out.Affinity = append(out.Affinity, AffinityMap{Set: id, Size: h.have.Affinity[id].Size})
		}
	}
	if len(out.Sets) == 0 {
		return Objects{}
	}
	return out
}
