// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
	"slices"
	"strings"
)

// Diff returns the transaction that turns have into want. It is empty when they
// are the same.
func Diff(have, want State) Tx {
	tx := Tx{Name: want.Name}
	for _, f := range Families {
		if want.Tables[f] != nil {
			diffTable(f, have.Tables[f], want.Tables[f], &tx)
		}
	}
	return tx
}

func diffTable(f Family, have, want *Table, tx *Tx) {
	switch {
	case have == nil:
		tx.Add(want.op(AddTable, f))
		have = NewTable()
	case incompatible(have, want):
		reset := want.op(ResetTable, f)
		reset.Served = have.served()
		tx.Add(reset)
		have = NewTable()
	case have.Dormant || have.Tenure.open(want.Tenure.Wanted):
		tx.Add(want.op(AddTable, f))
	}
	diffChains(f, have.Chains, want.Chains, tx)
	for _, id := range slices.SortedFunc(maps.Keys(want.Sets), SetID.compare) {
		old, ok := have.Sets[id]
		if !ok {
			tx.Add(Op{Kind: AddSet, Family: f, Set: id, Size: want.Affinity[id].Size, Counted: want.Counted && id.Kind.Serves()})
		}
		switch {
		case id.Kind.Dynamic(): // its clients are the kernel's own
		case id.Kind.Interval():
			fill(f, id, old, want.Sets[id], tx)
		default:
			diffElements(f, id, old, want.Sets[id], tx)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(have.Sets), SetID.compare) {
		if _, ok := want.Sets[id]; !ok {
			if !id.Kind.Dynamic() && !id.Kind.Interval() {
				diffElements(f, id, have.Sets[id], nil, tx)
			}
			tx.Add(Op{Kind: DeleteSet, Family: f, Set: id})
		}
	}
	for _, name := range have.Foreign {
		tx.Add(Op{Kind: DeleteSet, Family: f, Foreign: name})
	}
	for _, o := range have.Objects {
		tx.Add(Op{Kind: DeleteObject, Family: f, Odd: o})
	}
}

// op returns an operation that adds the table.
func (t *Table) op(kind OpKind, f Family) Op {
	return Op{Kind: kind, Family: f, Owned: t.Tenure.Wanted == HoldOwned}
}

// fill makes a set of ranges equal to another.
func fill(f Family, id SetID, have, want map[Key]Value, tx *Tx) {
	if !maps.Equal(have, want) {
		tx.Add(Op{Kind: FillSet, Family: f, Set: id, Elements: sortedElements(want)})
	}
}

func sortedElements(m map[Key]Value) []Element {
	out := make([]Element, 0, len(m))
	for k, v := range m {
		out = append(out, Element{k, v})
	}
	slices.SortFunc(out, func(a, b Element) int { return a.Key.compare(b.Key) })
	return out
}

// incompatible says that have cannot be changed into want step by step: a set
// has our name but other types or another size, counts or does not, a base chain
// has another hook, the table has other flags, or something is odd.
func incompatible(have, want *Table) bool {
	if have.Counted != want.Counted || have.Tenure.unfit(have.Dormant, want.Tenure.Wanted) {
		return true
	}
	if odd(have.Odd, func(c string) bool { _, ok := want.Chains[c]; return ok }, func(id SetID) bool { _, ok := want.Sets[id]; return ok }) {
		return true
	}
	for _, name := range have.Foreign {
		if _, ours := ParseSetID(name); ours {
			return true
		}
	}
	for id, h := range have.Affinity {
		if w, ok := want.Affinity[id]; ok && w.Size != h.Size {
			return true
		}
	}
	for name, w := range want.Chains {
		h, ok := have.Chains[name]
		if !ok {
			continue
		}
		if (h.Hook == nil) != (w.Hook == nil) || h.Hook != nil && *h.Hook != *w.Hook {
			return true
		}
	}
	return false
}

// odd says whether something is odd about the table, or about a chain or a set that should be there.
func odd(list []Oddity, chain func(string) bool, set func(SetID) bool) bool {
	return slices.ContainsFunc(list, func(o Oddity) bool {
		id, ours := ParseSetID(o.Set)
		return o.Chain == "" && o.Set == "" || o.Chain != "" && chain(o.Chain) || ours && set(id)
	})
}

// served returns the elements that say where something is served.
func (t *Table) served() (out []SetElements) {
	for id, set := range t.Sets {
		if id.Kind.Serves() || id.Kind == NodePortIPs {
			out = append(out, SetElements{id, sortedElements(set)})
		}
	}
	return out
}

func diffChains(f Family, have, want map[string]Chain, tx *Tx) {
	for _, c := range sortedChains(want) {
		switch h, ok := have[c.Name]; {
		case !ok:
			tx.Add(Op{Kind: AddChain, Family: f, Chain: c})
		case !h.Equal(c):
			tx.Add(Op{Kind: ReplaceChain, Family: f, Chain: c})
		}
	}
	for _, c := range sortedChains(have) {
		if _, ok := want[c.Name]; ok {
			continue
		}
		if c.mayRefer() { // to other chains that go: their order is not known
			tx.Add(Op{Kind: ReplaceChain, Family: f, Chain: Chain{Name: c.Name, Hook: c.Hook}})
		}
		tx.Add(Op{Kind: DeleteChain, Family: f, Chain: c})
	}
}

// mayRefer says whether a rule jumps to a chain or is not known.
func (c Chain) mayRefer() bool {
	for _, r := range c.Rules {
		for _, s := range r {
			if _, unknown := s.(Unknown); unknown || refersTo(s).chain != "" {
				return true
			}
		}
	}
	return false
}

func sortedChains(m map[string]Chain) []Chain {
	return slices.SortedFunc(maps.Values(m), func(a, b Chain) int { return strings.Compare(a.Name, b.Name) })
}

func diffElements(f Family, id SetID, have, want map[Key]Value, tx *Tx) {
	var added, changed, gone []Element
	for k, v := range want {
		switch old, ok := have[k]; {
		case !ok:
			added = append(added, Element{k, v})
		case old != v:
			changed = append(changed, Element{k, v})
		}
	}
	for k, v := range have {
		if _, ok := want[k]; !ok {
			gone = append(gone, Element{k, v})
		}
	}
	addElementOps(f, id, added, changed, gone, tx)
}

func addElementOps(f Family, id SetID, added, changed, gone []Element, tx *Tx) {
	for _, op := range []Op{
		{Kind: AddElements, Elements: added},
		{Kind: ReplaceElements, Elements: changed},
		{Kind: DeleteElements, Elements: gone},
	} {
		if len(op.Elements) > 0 {
			op.Family, op.Set = f, id
			slices.SortFunc(op.Elements, func(a, b Element) int { return a.Key.compare(b.Key) })
			tx.Add(op)
		}
	}
}
