// SPDX-License-Identifier: Apache-2.0

package rules

// Desired is what the kernel should hold: the objects that every table has and
// those of each owner. It keeps the owners' objects, so that a change of one costs
// no more than that owner's objects. It is not safe for concurrent use.
type Desired struct {
	config  Config
	objects map[Owner]Objects
	// refs counts the owners of elements that several can have, and those that
	// have elements in a shard, under the shard's ID and the zero Key.
	refs map[ref]int32
}

type ref struct {
	family Family
	set    SetID
	key    Key
}

// NewDesired returns the desired state without any service.
func NewDesired(c Config) *Desired {
	return &Desired{
		config:  c.WithDefaults(),
		objects: map[Owner]Objects{},
		refs:    map[ref]int32{},
	}
}

// Owned is the objects that an owner is to have. Empty objects remove the owner.
type Owned struct {
	Owner   Owner
	Objects Objects
}

// Objects returns what an owner has.
func (d *Desired) Objects(o Owner) Objects { return d.objects[o] }

// Owners returns the number of owners that have objects.
func (d *Desired) Owners() int { return len(d.objects) }

// Update sets the objects of some owners, each named once, and returns the
// transaction that does the same to a kernel that holds what d held.
func (d *Desired) Update(changes []Owned) Tx {
	u := update{d: d, tx: Tx{Name: d.config.Table}, net: map[ref]*delta{}}
	for _, c := range changes {
		u.owner(c.Owner, d.objects[c.Owner], c.Objects)
		if len(c.Objects.Sets) == 0 {
			delete(d.objects, c.Owner)
		} else {
			d.objects[c.Owner] = c.Objects
		}
	}
	u.finish()
	return u.tx
}

// State returns all of it.
func (d *Desired) State() State {
	s := Base(d.config)
	for owner, o := range d.objects {
		t := s.Tables[owner.Family]
		for _, c := range o.Chains {
			t.Chains[c.Name] = c
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
}

// delta is an element before and after an update.
type delta struct {
	had, has bool
	old, new Value
}

func (u *update) owner(o Owner, old, new Objects) {
	u.chains(o.Family, old.Chains, new.Chains)
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
	if set.Kind == Endpoints {
		u.shard(f, set, len(old) > 0, len(new) > 0)
	}
	if len(old) == 0 && set.Kind == Endpoints { // the common case, without copies
		u.tx.Add(Op{Kind: AddElements, Family: f, Set: set, Elements: new})
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
				if set.Kind != Endpoints {
					u.touch(f, set, old[i], -1)
					u.touch(f, set, new[j], +1)
				}
			}
			i, j = i+1, j+1
		}
	}
	if set.Kind == Endpoints {
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

// touch notes that an owner gains or loses an element.
func (u *update) touch(f Family, set SetID, e Element, n int32) {
	r := ref{f, set, e.Key}
	before := u.d.refs[r]
	if u.d.refs[r] = before + n; before+n == 0 {
		delete(u.d.refs, r)
	}
	dl := u.net[r]
	if dl == nil {
		dl = &delta{had: before > 0}
		if n < 0 {
			dl.old = e.Value
		}
		u.net[r] = dl
		u.order = append(u.order, r)
	}
	dl.has = before+n > 0
	if n > 0 {
		dl.new = e.Value
	} else if !dl.has && dl.had {
		dl.old = e.Value
	}
}

// shard notes whether an owner has elements in a map that exists only while
// somebody has.
func (u *update) shard(f Family, set SetID, had, has bool) {
	if had != has {
		n := int32(1)
		if had {
			n = -1
		}
		u.touch(f, set, Element{}, n)
	}
}

// finish turns net into operations, one for each set and kind of change.
func (u *update) finish() {
	type change struct{ added, changed, gone []Element }
	type where struct {
		family Family
		set    SetID
	}
	all := map[where]*change{}
	var order []where
	for _, r := range u.order {
		dl := u.net[r]
		if r.set.Kind == Endpoints {
			u.finishShard(r, dl)
			continue
		}
		w := where{r.family, r.set}
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
		case dl.had && dl.has && dl.new != dl.old && !r.set.Kind.shared():
			c.changed = append(c.changed, Element{r.key, dl.new})
		}
	}
	for _, w := range order {
		c := all[w]
		addElementOps(w.family, w.set, c.added, c.changed, c.gone, &u.tx)
	}
}

func (u *update) finishShard(r ref, dl *delta) {
	switch {
	case !dl.had && dl.has:
		u.tx.Add(Op{Kind: AddSet, Family: r.family, Set: r.set})
	case dl.had && !dl.has:
		u.tx.Add(Op{Kind: DeleteSet, Family: r.family, Set: r.set})
	}
}

// Has says whether an object that a message names is among o.
func (o Objects) Has(object Object) bool {
	for _, c := range o.Chains {
		if c.Name == object.Chain {
			return true
		}
	}
	if object.Element == nil {
		return false
	}
	for _, se := range o.Sets {
		if se.Set.Name() != object.Set {
			continue
		}
		for _, e := range se.Elements {
			if e.Key == object.Element.Key {
				return true
			}
		}
	}
	return false
}

// OwnersOf returns the owners of objects, in no order. It looks at all owners: it
// is for messages about refused transactions.
func (d *Desired) OwnersOf(objects []Object) []Owner {
	var out []Owner
	for owner, has := range d.objects {
		for _, o := range objects {
			if o.Family == owner.Family && has.Has(o) {
				out = append(out, owner)
				break
			}
		}
	}
	return out
}
