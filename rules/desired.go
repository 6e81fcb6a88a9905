// SPDX-License-Identifier: Apache-2.0

package rules

import "slices"

// Desired is what the kernel should hold: the objects that every table has and
// those of each owner. It keeps the owners' objects, so that a change of one costs
// no more than that owner's objects. It is not safe for concurrent use.
type Desired struct {
	config  Config
	node    Node
	objects map[Owner]stored
	// refs counts the owners of elements that several can have, those that have
	// elements in a set that exists on demand, under its ID and the zero Key, and
	// those of shared chains.
	refs map[ref]int32
	// counts is what the owners have; baseCounts is the rest.
	counts, baseCounts [2]Counts
	// failover counts the owners with failover.
	failover [2]int
}

type ref struct {
	family Family
	set    SetID
	key    Key
	chain  string // of a shared chain
}

// NewDesired returns the desired state without any service.
func NewDesired(c Config, n Node) *Desired {
	d := &Desired{
		config:  c.WithDefaults(),
		node:    n,
		objects: map[Owner]stored{},
		refs:    map[ref]int32{},
	}
	d.countBase()
	return d
}

// Update sets the objects of some owners, each named once, and returns the
// transaction that does the same to a kernel that holds what d held.
func (d *Desired) Update(changes []Owned) Tx {
	u := update{d: d, tx: Tx{Name: d.config.Table}, net: map[ref]*delta{}, added: map[setOf][]Element{}}
	before := [...]usage{d.usage(IPv4), d.usage(IPv6)}
	for _, c := range changes {
		old := d.objects[c.Owner].objects()
		u.owner(c.Owner, old, c.Objects)
		d.counts[c.Owner.Family].own(old, -1)
		d.counts[c.Owner.Family].own(c.Objects, +1)
		d.countFailover(c.Owner.Family, old, -1)
		d.countFailover(c.Owner.Family, c.Objects, +1)
		if len(c.Objects.Sets) == 0 {
			delete(d.objects, c.Owner)
		} else {
			d.objects[c.Owner] = store(c.Objects)
		}
	}
	u.finish()
	for _, f := range Families {
		if after := d.usage(f); after != before[f] {
			u.affinity(f, usageSets(before[f]), usageSets(after))
			u.chains(f, usageChains(d.config, before[f]), usageChains(d.config, after))
			d.countBase()
		}
	}
	return u.tx
}

// SetNode changes what holds for all services, and returns the transaction that
// does the same to a kernel that holds what d held. The objects of service ports
// that depend on it are the caller's to build anew.
func (d *Desired) SetNode(n Node) Tx {
	before := d.baseState()
	d.node = n
	d.countBase()
	return Diff(before, d.baseState())
}

// countFailover counts an owner in or out.
func (d *Desired) countFailover(f Family, o Objects, n int) {
	if o.Failover {
		d.failover[f] += n
	}
}

// Failover says whether unanswered connections of a family are noted.
func (d *Desired) Failover(f Family) bool { return d.failover[f] > 0 }

// usage returns what the services of a family use.
func (d *Desired) usage(f Family) usage {
	return usage{
		sticky:          d.refs[ref{family: f, set: SetID{Kind: Sticky}}] > 0,
		stickyNodePorts: d.refs[ref{family: f, set: SetID{Kind: StickyNodePorts}}] > 0,
		failover:        d.failover[f] > 0,
	}
}

// baseState returns the state without any service's objects.
func (d *Desired) baseState() State {
	s := State{Name: d.config.Table}
	for _, f := range Families {
		s.Tables[f] = base(f, d.config, d.node, d.usage(f))
	}
	return s
}

// State returns all of it.
func (d *Desired) State() State {
	s := d.baseState()
	for owner, has := range d.objects {
		t, o := s.Tables[owner.Family], has.objects()
		for _, c := range slices.Concat(o.Chains, o.Shared) {
			t.Chains[c.Name] = c
		}
		for _, m := range o.Affinity {
			t.Affinity[m.Set] = m
			t.Sets[m.Set] = map[Key]Value{}
		}
		for _, se := range o.Sets {
			set := t.Sets[se.Set]
			if set == nil {
				set = make(map[Key]Value, len(se.Elements))
				t.Sets[se.Set] = set
			}
			for _, e := range se.Elements {
				set[e.Key] = e.Value
			}
		}
	}
	return s
}

// update collects the transaction of one call of Desired.Update.
type update struct {
	d  *Desired
	tx Tx
	// net holds what became of elements that more than one owner can touch:
	// shared ones, and frontends, which may pass from one owner to another.
	net map[ref]*delta
	// order keeps net's keys in the order of their first touch.
	order []ref
	// added holds elements of exclusive sets: few operations with many elements are
	// cheaper for the kernel than many with few.
	added      map[setOf][]Element
	addedOrder []setOf
}

// setOf is a set of a family.
type setOf struct {
	family Family
	set    SetID
}

// delta is an element, a set or a chain before and after an update.
type delta struct {
	had, has bool
	fresh    bool // just made
	old, new Value
	chain    Chain
}

func (u *update) owner(o Owner, old, new Objects) {
	u.chains(o.Family, old.Chains, new.Chains)
	for _, c := range old.Shared {
		u.touchRef(ref{family: o.Family, chain: c.Name}, -1).chain = c
	}
	for _, c := range new.Shared {
		u.touchRef(ref{family: o.Family, chain: c.Name}, +1).chain = c
	}
	u.affinity(o.Family, old.Affinity, new.Affinity)
	i, j := 0, 0
	for i < len(old.Sets) || j < len(new.Sets) {
		switch {
		case j == len(new.Sets) || i < len(old.Sets) && old.Sets[i].Set.compare(new.Sets[j].Set) < 0:
			u.elements(o.Family, old.Sets[i].Set, old.Sets[i].Elements, nil)
			i++
		case i == len(old.Sets) || old.Sets[i].Set.compare(new.Sets[j].Set) > 0:
			u.elements(o.Family, new.Sets[j].Set, nil, new.Sets[j].Elements)
			j++
		default:
			u.elements(o.Family, old.Sets[i].Set, old.Sets[i].Elements, new.Sets[j].Elements)
			i, j = i+1, j+1
		}
	}
}

// chains compares the chains of one owner: a handful at most.
func (u *update) chains(f Family, old, new []Chain) {
	find := func(list []Chain, name string) (Chain, bool) {
		for _, c := range list {
			if c.Name == name {
				return c, true
			}
		}
		return Chain{}, false
	}
	for _, c := range new {
		switch o, ok := find(old, c.Name); {
		case !ok:
			u.tx.Add(Op{Kind: AddChain, Family: f, Chain: c})
		case !o.Equal(c):
			u.tx.Add(Op{Kind: ReplaceChain, Family: f, Chain: c})
		}
	}
	for _, c := range old {
		if _, ok := find(new, c.Name); !ok {
			u.tx.Add(Op{Kind: DeleteChain, Family: f, Chain: c})
		}
	}
}

// elements compares the elements of one owner in one set, both sorted.
func (u *update) elements(f Family, set SetID, old, new []Element) {
	if set.Kind.row().onDemand {
		u.onDemand(f, set, len(old) > 0, len(new) > 0)
	}
	if set.Kind.Interval() {
		if len(new) > 0 && !slices.Equal(old, new) {
			u.tx.Add(Op{Kind: FillSet, Family: f, Set: set, Elements: new})
		}
		return
	}
	if len(old) == 0 && set.Kind.row().owners == exclusive { // the common case, without copies
		u.add(setOf{f, set}, new)
		return
	}
	var added, changed, gone []Element
	i, j := 0, 0
	for i < len(old) || j < len(new) {
		switch {
		case j == len(new) || i < len(old) && old[i].Key.compare(new[j].Key) < 0:
			gone = append(gone, old[i])
			i++
		case i == len(old) || old[i].Key.compare(new[j].Key) > 0:
			added = append(added, new[j])
			j++
		default:
			if old[i].Value != new[j].Value {
				changed = append(changed, new[j])
				if set.Kind.row().owners != exclusive {
					u.touch(f, set, old[i], -1)
					u.touch(f, set, new[j], +1)
				}
			}
			i, j = i+1, j+1
		}
	}
	if set.Kind.row().owners == exclusive {
		addElementOps(f, set, added, changed, gone, &u.tx)
		return
	}
	for _, e := range gone {
		u.touch(f, set, e, -1)
	}
	for _, e := range added {
		u.touch(f, set, e, +1)
	}
}

func (u *update) add(to setOf, elements []Element) {
	all, ok := u.added[to]
	if !ok {
		u.addedOrder = append(u.addedOrder, to)
		u.added[to] = elements[:len(elements):len(elements)] // the owner's own
		return
	}
	u.added[to] = append(all, elements...)
}

// affinity compares the maps of one owner that the kernel fills: two at most.
func (u *update) affinity(f Family, old, new []AffinityMap) {
	has := func(list []AffinityMap, id SetID) bool {
		return slices.ContainsFunc(list, func(m AffinityMap) bool { return m.Set == id })
	}
	for _, m := range new {
		if !has(old, m.Set) {
			u.tx.Add(Op{Kind: AddSet, Family: f, Set: m.Set, Size: m.Size})
		}
	}
	for _, m := range old {
		if !has(new, m.Set) {
			u.tx.Add(Op{Kind: DeleteSet, Family: f, Set: m.Set})
		}
	}
}

// touch notes that an owner gains or loses an element.
func (u *update) touch(f Family, set SetID, e Element, n int32) {
	dl := u.touchRef(ref{family: f, set: set, key: e.Key}, n)
	switch {
	case n > 0:
		dl.new = e.Value
	case dl.fresh && dl.has: // the other owner's value is there already
		dl.old, dl.new = e.Value, e.Value
	case dl.fresh || !dl.has && dl.had:
		dl.old = e.Value
	}
	dl.fresh = false
}

// touchRef counts an owner in or out, and returns what became of the reference.
func (u *update) touchRef(r ref, n int32) *delta {
	before := u.d.refs[r]
	if u.d.refs[r] = before + n; before+n == 0 {
		delete(u.d.refs, r)
	}
	dl := u.net[r]
	if dl == nil {
		dl = &delta{had: before > 0, fresh: true}
		u.net[r] = dl
		u.order = append(u.order, r)
	}
	dl.has = before+n > 0
	return dl
}

// onDemand notes whether an owner has elements in a set that exists only while
// somebody has.
func (u *update) onDemand(f Family, set SetID, had, has bool) {
	switch {
	case had && !has:
		u.touchRef(ref{family: f, set: set}, -1)
	case !had && has:
		u.touchRef(ref{family: f, set: set}, +1)
	}
}

// finish turns net into operations, one for each set and kind of change.
func (u *update) finish() {
	for _, w := range u.addedOrder {
		u.tx.Add(Op{Kind: AddElements, Family: w.family, Set: w.set, Elements: u.added[w]})
	}
	type change struct{ added, changed, gone []Element }
	all := map[setOf]*change{}
	var order []setOf
	for _, r := range u.order {
		dl := u.net[r]
		if r.key == (Key{}) {
			u.finishObject(r, dl)
			continue
		}
		w := setOf{r.family, r.set}
		c := all[w]
		if c == nil {
			c = &change{}
			all[w] = c
			order = append(order, w)
		}
		switch {
		case !dl.had && dl.has:
			c.added = append(c.added, Element{r.key, dl.new})
		case dl.had && !dl.has:
			c.gone = append(c.gone, Element{r.key, dl.old})
		case dl.had && dl.has && dl.new != dl.old && r.set.Kind.row().owners != shared:
			c.changed = append(c.changed, Element{r.key, dl.new})
		}
	}
	for _, w := range order {
		c := all[w]
		u.d.counts[w.family].Elements += len(c.added) - len(c.gone)
		addElementOps(w.family, w.set, c.added, c.changed, c.gone, &u.tx)
	}
}

// finishObject is for sets that exist on demand, and shared chains.
func (u *update) finishObject(r ref, dl *delta) {
	op := Op{Family: r.family, Set: r.set, Chain: dl.chain}
	add, del, n := AddSet, DeleteSet, +1
	if r.chain != "" {
		add, del = AddChain, DeleteChain
	}
	switch {
	case !dl.had && dl.has:
		op.Kind = add
	case dl.had && !dl.has:
		op.Kind, n = del, -1
	default:
		return
	}
	if r.chain != "" {
		u.d.counts[r.family].chain(dl.chain, n)
	} else {
		u.d.counts[r.family].set(r.set, n)
	}
	u.tx.Add(op)
}
