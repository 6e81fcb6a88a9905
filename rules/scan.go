// SPDX-License-Identifier: Apache-2.0

package rules

// Scan hands the state over part by part, as a kernel does: what things name of it, and everything if there are none.
// The parts share its maps.
func (s State) Scan(things []Thing, to Parts) {
	to.Begin()
	all := All(things)
	for _, f := range Families {
		switch t := s.Tables[f]; {
		case !all:
			scanSome(f, t, things, to)
		case t == nil:
			to.Part(Part{Family: f})
		default:
			scanAll(f, t, to)
		}
	}
}

// scanAll hands a table over.
func scanAll(f Family, t *Table, to Parts) {
	head := NewTable()
	head.Foreign, head.Objects, head.Odd, head.Dormant, head.Counted = t.Foreign, t.Objects, t.Odd, t.Dormant, t.Counted
	head.Tenure = t.Tenure
	to.Part(Part{Family: f, Table: head, Counting: true, Head: true})
	for name, c := range t.Chains {
		part := NewTable()
		part.Chains[name] = c
		to.Part(Part{Family: f, Table: part, Chains: []string{name}})
	}
	for id := range t.Sets {
		scanSet(f, t, id, to)
	}
}

func scanSet(f Family, t *Table, id SetID, to Parts) {
	part := NewTable()
	if set, ok := t.Sets[id]; ok {
		part.Sets[id] = set
	}
	if m, ok := t.Affinity[id]; ok {
		part.Affinity[id] = m
	}
	to.Part(Part{Family: f, Table: part, Sets: []SetID{id}})
}

// scanSome hands over what things name in a table; nil is one that does not exist.
func scanSome(f Family, t *Table, things []Thing, to Parts) {
	exists := t != nil
	if !exists {
		t = NewTable()
	}
	for _, thing := range things {
		part := NewTable()
		id, _ := ParseSetID(thing.Name)
		switch {
		case thing.Family != f:
		case thing.Kind == ThingTable && !exists:
			to.Part(Part{Family: f})
		case thing.Kind == ThingTable:
			part.Dormant, part.Tenure = t.Dormant, t.Tenure
			to.Part(Part{Family: f, Table: part, Head: true})
		case thing.Kind == ThingChain:
			if c, ok := t.Chains[thing.Name]; ok {
				part.Chains[thing.Name] = c
			}
			to.Part(Part{Family: f, Table: part, Chains: []string{thing.Name}})
		case thing.Kind == ThingSet:
			scanSet(f, t, id, to)
		case thing.Kind == ThingElement:
			part.Sets[id] = map[Key]Value{}
			if v, ok := t.Sets[id][thing.Key]; ok {
				part.Sets[id][thing.Key] = v
			}
			to.Part(Part{Family: f, Table: part, Keys: map[SetID][]Key{id: {thing.Key}}})
		default:
			part.Objects = t.Objects
			to.Part(Part{Family: f, Table: part})
		}
	}
}
