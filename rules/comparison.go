// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
	"slices"
)

// Comparison compares what a kernel holds with what it should hold, part by part, so that no second copy of
// everything is needed. It takes the parts of both tables, or those of some things; d does not change meanwhile.
type Comparison struct {
	d    *Desired
	only *choice // nil: everything
	tx   [2]Tx
	want [2]*wanted
	// missing and reset say that a table is not there, and that it must be replaced.
	missing, reset [2]bool
	served         [2][]SetElements // of a table that is replaced
	words          *kept            // keeps what Differences needs; nil: nobody asks
}

// Compare returns a comparison of some things, or of everything if there are none. Who reads the kernel begins it.
func (d *Desired) Compare(things []Thing) *Comparison {
	return &Comparison{d: d, only: choose(things)}
}

// Begin implements Parts.
func (c *Comparison) Begin() {
	*c = Comparison{d: c.d, only: c.only, words: c.words.anew(c.d.config.Table)}
	for _, f := range Families {
		c.want[f] = c.d.wanted(f, c.only)
	}
}

// Part implements Parts.
func (c *Comparison) Part(p Part) {
	f, want := p.Family, c.want[p.Family]
	if p.Table == nil {
		c.missing[f] = true
		return
	}
	if c.missing[f] {
		return
	}
	have := *p.Table
	c.words.oddities(f, have.Odd)
	if c.reset[f] {
		c.served[f] = append(c.served[f], have.served()...)
		return
	}
	if !p.Counting || c.words != nil { // whether it counts is no difference
		have.Counted = want.base.Counted
	}
	if c.words != nil { // nor is who owns it: another socket of the same program, where that reads what it has written
		have.Tenure = want.base.Tenure
	}
	strange := want.odd(have.Odd)
	have.Odd = nil
	all := p.Keys
	p.Keys = c.keys(p)
	maps.DeleteFunc(have.Sets, func(id SetID, _ map[Key]Value) bool { return all[id] != nil && p.Keys[id] == nil })
	t := want.take(p)
	if strange || incompatible(&have, t) {
		c.reset[f] = true
		c.served[f] = have.served()
		return
	}
	before := c.tx[f].Len()
	if diffTable(f, &have, t, &c.tx[f]); c.tx[f].Len() > before {
		c.words.keep(f, &have, t)
	}
}

// keys returns the keys of a part that count: not those of a set that comes as a whole, too, nor of one that is not
// there and should not be, nor clients, which come and go.
func (c *Comparison) keys(p Part) map[SetID][]Key {
	out := maps.Clone(p.Keys)
	maps.DeleteFunc(out, func(id SetID, _ []Key) bool {
		_, wanted := c.want[p.Family].sets[id]
		return c.only.whole(p.Family, id) || !wanted && len(p.Table.Sets[id]) == 0 || id.Kind.Dynamic()
	})
	return out
}

// Whole says whether the comparison found that it needs all parts, because a table is gone or must be replaced.
func (c *Comparison) Whole() bool {
	return c.only != nil && (c.missing != [2]bool{} || c.reset != [2]bool{})
}

// Tx returns what makes the kernel as it should be, after all parts. A comparison of some things that is not Whole
// tells of them only.
func (c *Comparison) Tx() Tx {
	out := Tx{Name: c.d.config.Table}
	for _, f := range Families {
		if c.only == nil {
			c.finish(f)
		}
		for _, ops := range c.tx[f].phases {
			out.Add(ops...)
		}
	}
	return out
}

// finish adds what no part has told of.
func (c *Comparison) finish(f Family) {
	if c.missing[f] || c.reset[f] {
		op := c.want[f].base.op(AddTable, f)
		if c.reset[f] {
			op.Kind, op.Served = ResetTable, c.served[f]
			// What parts before had and should not has gone into the transaction.
			c.tx[f].EachRemoved(func(_ Family, id SetID, list []Element) { op.Served = append(op.Served, SetElements{id, list}) })
		}
		c.tx[f] = Tx{}
		c.tx[f].Add(op)
		c.want[f] = c.d.wanted(f, nil)
	}
	w := c.want[f]
	have := NewTable()
	have.Counted = w.base.Counted
	diffTable(f, have, w.take(Part{Family: f, Chains: slices.Collect(maps.Keys(w.chains))}), &c.tx[f])
	for _, id := range slices.SortedFunc(maps.Keys(w.sets), SetID.compare) { // one by one: they may be large
		diffTable(f, have, w.take(Part{Family: f, Sets: []SetID{id}}), &c.tx[f])
	}
	if c.missing[f] {
		c.words.absent(f)
	}
}

// wanted finds what a table should hold, without a copy of the owners' elements.
type wanted struct {
	base     *Table
	chains   map[string]*Chain
	sets     map[SetID][]storedElements
	affinity map[SetID]AffinityMap
}

// wanted returns what the table of a family should hold: all of it, or of some things only.
func (d *Desired) wanted(f Family, only *choice) *wanted {
	base := base(f, d.config, d.node, d.usage(f))
	w := &wanted{base: base, chains: map[string]*Chain{}, sets: map[SetID][]storedElements{}, affinity: map[SetID]AffinityMap{}}
	for name, c := range base.Chains {
		if only.chain(f, name) {
			w.chains[name] = &c
		}
	}
	for id := range base.Sets {
		if only.set(f, id) {
			w.sets[id] = nil
		}
	}
	for id, m := range base.Affinity {
		if only.set(f, id) {
			w.affinity[id] = m
		}
	}
	for owner, o := range d.objects {
		if owner.Family == f {
			w.add(f, o, only)
		}
	}
	return w
}

// add adds an owner's objects.
func (w *wanted) add(f Family, has stored, only *choice) {
	o := &has.rest
	for _, list := range [][]Chain{o.Chains, o.Shared} {
		for i := range list {
			if only.chain(f, list[i].Name) {
				w.chains[list[i].Name] = &list[i]
			}
		}
	}
	for _, m := range o.Affinity {
		if only.set(f, m.Set) {
			w.affinity[m.Set], w.sets[m.Set] = m, nil
		}
	}
	has.eachSet(func(id SetID, list storedElements) {
		if only.set(f, id) {
			w.sets[id] = append(w.sets[id], list)
		}
	})
}

// odd says whether something that is odd should be there, and so be otherwise.
func (w *wanted) odd(list []Oddity) bool {
	return odd(list, func(c string) bool { return w.chains[c] != nil }, func(id SetID) bool { _, ok := w.sets[id]; return ok })
}

// take returns what a part should be, and forgets it.
func (w *wanted) take(p Part) *Table {
	t := NewTable()
	t.Counted = w.base.Counted
	if p.Head {
		t.Tenure = w.base.Tenure
	}
	for _, name := range p.Chains {
		if c := w.chains[name]; c != nil {
			t.Chains[name] = *c
			delete(w.chains, name)
		}
	}
	for _, id := range p.Sets {
		if lists, ok := w.sets[id]; ok {
			t.Sets[id] = w.elements(id, lists)
			delete(w.sets, id)
		}
		if m, ok := w.affinity[id]; ok {
			t.Affinity[id] = m
			delete(w.affinity, id)
		}
	}
	for id, keys := range p.Keys {
		if lists, ok := w.sets[id]; ok {
			t.Sets[id] = w.some(id, lists, keys)
		}
		if m, ok := w.affinity[id]; ok {
			t.Affinity[id] = m
		}
	}
	return t
}

// elements returns all elements of a set.
func (w *wanted) elements(id SetID, lists []storedElements) map[Key]Value {
	n := len(w.base.Sets[id])
	for _, list := range lists {
		n += list.len()
	}
	out := make(map[Key]Value, n)
	maps.Copy(out, w.base.Sets[id])
	for _, list := range lists {
		for _, e := range list.elements() {
			out[e.Key] = e.Value
		}
	}
	return out
}

// some returns those elements of a set that have some keys.
func (w *wanted) some(id SetID, lists []storedElements, keys []Key) map[Key]Value {
	out := map[Key]Value{}
	for _, k := range keys {
		if v, ok := w.base.Sets[id][k]; ok {
			out[k] = v
		}
		for _, list := range lists {
			if v, ok := list.value(k); ok {
				out[k] = v
			}
		}
	}
	return out
}

// choice chooses chains and sets. Nil chooses all.
type choice struct {
	chains map[objectKey]bool
	sets   map[setOf]bool // whether they are chosen as a whole
}

// choose returns the choice of some things; of all, if there are none.
func choose(things []Thing) *choice {
	if len(things) == 0 {
		return nil
	}
	c := &choice{chains: map[objectKey]bool{}, sets: map[setOf]bool{}}
	for _, t := range things {
		switch t.Kind {
		case Everything:
			return nil
		case ThingChain:
			c.chains[objectKey{family: t.Family, chain: t.Name}] = true
		case ThingSet, ThingElement:
			if id, ok := ParseSetID(t.Name); ok {
				of := setOf{t.Family, id}
				c.sets[of] = c.sets[of] || t.Kind == ThingSet
			}
		}
	}
	return c
}

func (c *choice) chain(f Family, name string) bool {
	return c == nil || c.chains[objectKey{family: f, chain: name}]
}

func (c *choice) set(f Family, id SetID) bool {
	if c == nil {
		return true
	}
	_, ok := c.sets[setOf{f, id}]
	return ok
}

// whole says whether a set is chosen with all its elements.
func (c *choice) whole(f Family, id SetID) bool {
	return c == nil || c.sets[setOf{f, id}]
}
