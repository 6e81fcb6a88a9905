// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
	"slices"
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
		sel := newSelection(s.Tables[f], namespace, name)
		for _, o := range objects {
			if o.Owner.Family == f {
				sel.objects(f, o.Objects)
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
		for name, chain := range t.Chains {
			if id := ParseChainID(name); id.Of == (ServicePortName{}) && id.Role.row().common {
				c.Chains[name] = chain
			}
		}
		for id, set := range t.Sets {
			if id.Kind.row().owners == nobodys {
				c.Sets[id] = set
			}
		}
		out.Tables[f] = c
	}
	return out
}

// selection gathers what a Service has in one table.
type selection struct {
	ownership
	from   *Table
	chains map[string]bool
}

func newSelection(t *Table, namespace, name string) *selection {
	s := &selection{from: t, chains: map[string]bool{}}
	s.named = func(n ServicePortName) bool { return n.Namespace == namespace && n.Name == name }
	for chain := range t.Chains {
		if s.chain(chain) {
			s.chains[chain] = true
			s.chooses(chain)
		}
	}
	return s
}

// objects adds what the Service should have.
func (s *selection) objects(f Family, o Objects) {
	for _, c := range o.Shared {
		s.chains[c.Name] = true
	}
	for _, se := range o.Sets {
		for _, e := range se.Elements {
			s.expect(se.Set, e.Key)
		}
	}
	s.expectFrontends(o.Frontends(f))
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
		if s.set(id) {
			out.Sets[id] = set
			if m, ok := s.from.Affinity[id]; ok {
				out.Affinity[id] = m
			}
			continue
		}
		for k, v := range set {
			if s.element(id, k, v) {
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
