// SPDX-License-Identifier: Apache-2.0

package rules

// ObjectSet finds objects that messages name among those of owners, however many both are.
type ObjectSet struct {
	named map[objectKey][]int // by what identifies them: their indexes
	sets  map[objectKey][]int // sets, and all elements of a set
}

// objectKey identifies an object: a chain, a set, or an element of a set.
type objectKey struct {
	family  Family
	chain   string
	set     string
	element Key
	single  bool // it is an element
}

// NewObjectSet returns the set of some objects.
func NewObjectSet(objects []Object) ObjectSet {
	s := ObjectSet{named: map[objectKey][]int{}, sets: map[objectKey][]int{}}
	for i, o := range objects {
		k := objectKey{family: o.Family, set: o.Set}
		switch {
		case o.Element != nil:
			k.element, k.single = o.Element.Key, true
		case o.Chain != "":
			k = objectKey{family: o.Family, chain: o.Chain}
		}
		s.named[k] = append(s.named[k], i)
		if o.Set != "" {
			of := objectKey{family: o.Family, set: o.Set}
			s.sets[of] = append(s.sets[of], i)
		}
	}
	return s
}

// each calls found for the objects that an owner of a family has, by their index. Elements of maps that the kernel
// fills, and of the ranges of one owner, are their map's owner's.
func (s ObjectSet) each(f Family, o Objects, found func(i int)) {
	all := func(list []int) {
		for _, i := range list {
			found(i)
		}
	}
	for _, list := range [][]Chain{o.Chains, o.Shared} {
		for i := range list {
			all(s.named[objectKey{family: f, chain: list[i].Name}])
		}
	}
	for i := range o.Affinity {
		all(s.sets[objectKey{family: f, set: o.Affinity[i].Set.Name()}])
	}
	for i := range o.Sets {
		se := &o.Sets[i]
		name := se.Set.Name()
		if se.Set.Kind.Interval() {
			all(s.named[objectKey{family: f, set: name}])
		}
		for j := range se.Elements {
			all(s.named[objectKey{family: f, set: name, element: se.Elements[j].Key, single: true}])
		}
	}
}

// Any says whether an owner has one of the objects.
func (s ObjectSet) Any(f Family, o Objects) bool {
	any := false
	s.each(f, o, func(int) { any = true })
	return any
}

// OwnersOf returns the owners of objects, in no order, and the objects that nobody owns. It looks at all owners
// once: it is for messages about refused transactions.
func (d *Desired) OwnersOf(objects []Object) (owners []Owner, nobodys []Object) {
	s := NewObjectSet(objects)
	owned := make([]bool, len(objects))
	for owner, has := range d.objects {
		any := false
		s.each(owner.Family, has.objects(), func(i int) { owned[i], any = true, true })
		if any {
			owners = append(owners, owner)
		}
	}
	for i, o := range objects {
		if !owned[i] {
			nobodys = append(nobodys, o)
		}
	}
	return owners, nobodys
}

// set says whether elements of a set are among the objects, or the set itself.
func (s ObjectSet) set(f Family, name string) bool {
	return len(s.sets[objectKey{family: f, set: name}]) > 0
}

// element says whether an element of a set is among the objects.
func (s ObjectSet) element(f Family, set string, k Key) bool {
	return len(s.named[objectKey{family: f, set: set, element: k, single: true}]) > 0
}
