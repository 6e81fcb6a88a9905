// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
	"slices"
	"strings"
)

// Select returns the part of a state that a Service has: the chains and sets that bear
// its name, and the elements that lead to or from them. What bears no name, such as a
// frontend with one endpoint, is known by the objects that the Service should have.
func (s State) Select(namespace, name string, objects []Owned) State {
	out := State{Name: s.Name}
	for _, f := range Families {
		if s.Tables[f] == nil {
			continue
		}
		sel := newSelection(s.Tables[f], namespace+"/"+name)
		for _, o := range objects {
			if o.Owner.Family == f {
				sel.expect(f, o.Objects)
			}
		}
		out.Tables[f] = sel.table()
	}
	return out
}

// Common returns the part of a state that every table has, whatever the Services are.
func (s State) Common() State {
	out := State{Name: s.Name}
	for f, t := range s.Tables {
		if t == nil {
			continue
		}
		c := NewTable()
		c.Dormant, c.SetOrder, c.ChainOrder = t.Dormant, t.SetOrder, t.ChainOrder
		for _, name := range []string{chainNoEndpoints, chainNoLocalEndpoints, chainNodePorts, chainServices,
			chainPrerouting, chainOutput, chainPostrouting, chainInput} {
			if chain, ok := t.Chains[name]; ok {
				c.Chains[name] = chain
			}
		}
		for _, k := range []SetKind{Protocols, NodePortIPs, ServiceCIDRs} {
			if set, ok := t.Sets[SetID{Kind: k}]; ok {
				c.Sets[SetID{Kind: k}] = set
			}
		}
		out.Tables[f] = c
	}
	return out
}

// selection gathers what a Service has in one table.
type selection struct {
	from     *Table
	service  string // namespace/name
	chains   map[string]bool
	ids      []identity             // of chains with endpoints
	expected map[SetID]map[Key]bool // elements that the Service should have
}

func newSelection(t *Table, service string) *selection {
	s := &selection{from: t, service: service, chains: map[string]bool{}, expected: map[SetID]map[Key]bool{}}
	for name := range t.Chains {
		if s.owns(name) {
			s.chains[name] = true
			s.ids = append(s.ids, identify(name))
		}
	}
	return s
}

// owns says whether a name of a chain, or the rest of a set's, is the Service's.
func (s *selection) owns(name string) bool {
	_, of, ok := strings.Cut(name, "/")
	return ok && (of == s.service || strings.HasPrefix(of, s.service+"/"))
}

// expect adds what the Service should have.
func (s *selection) expect(f Family, o Objects) {
	for _, c := range o.Shared {
		s.chains[c.Name] = true
	}
	for _, se := range o.Sets {
		for _, e := range se.Elements {
			s.expectKey(se.Set, e.Key)
		}
	}
	for _, fr := range o.Frontends(f) { // wherever they are
		kinds := []SetKind{Single, ServiceIPs, Sticky, MasqueradeIPs}
		if fr.IsNodePort() {
			kinds = []SetKind{SingleNodePorts, NodePorts, StickyNodePorts, MasqueradeNodePorts}
		}
		for _, k := range kinds {
			s.expectKey(SetID{Kind: k}, fr.Key())
		}
	}
}

func (s *selection) expectKey(id SetID, k Key) {
	if s.expected[id] == nil {
		s.expected[id] = map[Key]bool{}
	}
	s.expected[id][k] = true
}

// table returns what was selected.
func (s *selection) table() *Table {
	out := NewTable()
	out.Dormant, out.SetOrder, out.ChainOrder = s.from.Dormant, s.from.SetOrder, s.from.ChainOrder
	for name := range s.chains {
		if c, ok := s.from.Chains[name]; ok {
			out.Chains[name] = c
		}
	}
	for id, set := range s.from.Sets {
		if s.owns(id.Of) {
			out.Sets[id] = set
			if m, ok := s.from.Affinity[id]; ok {
				out.Affinity[id] = m
			}
			continue
		}
		for k, v := range set {
			if s.has(id, k, v) {
				out.add(id, k, v)
			}
		}
	}
	s.follow(out)
	return out
}

func (t *Table) add(id SetID, k Key, v Value) {
	if t.Sets[id] == nil {
		t.Sets[id] = map[Key]Value{}
	}
	t.Sets[id][k] = v
}

// has says whether an element is the Service's.
func (s *selection) has(id SetID, k Key, v Value) bool {
	if s.expected[id][k] || v.Goto != "" && s.chains[v.Goto] && s.owns(v.Goto) {
		return true
	}
	return slices.ContainsFunc(s.ids, func(i identity) bool { return i.has(id, k) })
}

// follow adds what belongs to the addresses of the selected elements.
func (s *selection) follow(out *Table) {
	hairpin, clusterIPs := SetID{Kind: Hairpin}, SetID{Kind: ClusterIPs}
	for _, id := range slices.Collect(maps.Keys(out.Sets)) {
		for k, v := range out.Sets[id] {
			self := addrKey(v.To.Addr())
			if _, ok := s.from.Sets[hairpin][self]; ok && !id.Kind.Interval() {
				out.add(hairpin, self, Value{})
			}
			if _, ok := s.from.Sets[clusterIPs][addrKey(k.Addr)]; ok && id.Kind == ServiceIPs {
				out.add(clusterIPs, addrKey(k.Addr), Value{})
			}
		}
	}
}

// Empty says whether a state has neither chains nor elements.
func (s State) Empty() bool {
	for _, t := range s.Tables {
		if t != nil && len(t.Chains)+len(t.Sets) > 0 {
			return false
		}
	}
	return true
}
