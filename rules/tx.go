// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"maps"
	"slices"

	"github.com/nftproxy/nftproxy/printable"
)

// OpKind is what an Op does.
type OpKind uint8

// The kinds of Op.
const (
	ResetTable      OpKind = iota // delete the table if there is one, and add it anew
	AddTable                      // add the table, wake it if it is dormant, take it over if it is to be owned
	AddSet                        // add an empty set or map
	AddChain                      // add a chain with its rules
	AddElements                   // add elements that are not there
	FillSet                       // make these a set's only elements: for sets of ranges
	ReplaceChain                  // replace all rules of a chain
	ReplaceElements               // give elements that are there other values
	DeleteElements
	DeleteChain
	DeleteSet
	DeleteObject // delete something else that is not ours
)

// Op is one step of a transaction. Which fields it has depends on Kind.
type Op struct {
	Kind     OpKind
	Family   Family
	Chain    Chain         // AddChain, ReplaceChain; DeleteChain: its name only
	Set      SetID         // AddSet, AddElements, FillSet, ReplaceElements, DeleteElements, DeleteSet
	Foreign  string        // DeleteSet: the name of a set that is not ours, instead of Set
	Odd      ForeignObject // DeleteObject
	Elements []Element     // AddElements, FillSet, ReplaceElements, DeleteElements (keys only)
	// Size is the greatest number of elements of a map that the kernel fills: AddSet.
	Size uint32
	// Counted makes a map count the connections to each element: AddSet.
	Counted bool
	// Owned gives the table an owner, this program: ResetTable, AddTable.
	Owned bool
	// Served is where the table that goes served something: ResetTable. The kernel does not need it.
	Served []SetElements
}

// Tx is a transaction on the tables of one name. Its operations are in an order
// that the kernel accepts, and in which every prefix leaves a working state: what
// is new is complete before anything refers to it, and what goes is unreferenced
// before it is deleted. So a transaction that is too long for one netlink message
// can be cut between any two operations.
type Tx struct {
	Name   string
	phases [phases][]Op
}

// Phases of a transaction.
const (
	phaseTable     = 0
	phaseAddSet    = 1
	phaseAddChain  = 2
	phaseAddElem   = phaseAddChain + chainRanks
	phaseRules     = phaseAddElem + int(numSetKinds)
	phaseReplace   = phaseRules + 1
	phaseForeign   = phaseReplace + 1 // sets that are not ours: chains that go may be in them
	phaseObjects   = phaseForeign + 1 // such sets may refer to objects
	phaseDelElem   = phaseObjects + 1
	phaseDelChain  = phaseDelElem + int(numSetKinds)
	phaseDeleteSet = phaseDelChain + chainRanks
	phases         = phaseDeleteSet + 1
)

func (o Op) phase() int {
	switch o.Kind {
	case ResetTable, AddTable:
		return phaseTable
	case AddSet:
		return phaseAddSet
	case AddChain:
		return phaseAddChain + chainRank(o.Chain)
	case AddElements, FillSet:
		return phaseAddElem + int(o.Set.Kind)
	case ReplaceChain:
		return phaseRules
	case ReplaceElements:
		return phaseReplace
	case DeleteElements:
		return phaseDelElem + int(numSetKinds-1-o.Set.Kind)
	case DeleteChain:
		return phaseDelChain + chainRanks - 1 - chainRank(o.Chain)
	case DeleteObject:
		return phaseObjects
	default:
		if o.Foreign != "" {
			return phaseForeign
		}
		return phaseDeleteSet
	}
}

// Add puts an operation into its place in the transaction. The caller adds no
// two operations on one chain, set or element, except that it may empty a chain
// that it deletes.
func (t *Tx) Add(ops ...Op) {
	for _, o := range ops {
		p := o.phase()
		t.phases[p] = append(t.phases[p], o)
	}
}

// Split returns the transaction in two parts, to be carried out in this order: tables,
// sets and chains that are added, and all that refers to them or takes something away.
func (t *Tx) Split() (objects, rest Tx) {
	objects.Name, rest.Name = t.Name, t.Name
	copy(objects.phases[:phaseAddElem], t.phases[:phaseAddElem])
	copy(rest.phases[phaseAddElem:], t.phases[phaseAddElem:])
	return objects, rest
}

// Omit takes the operations on elements out of the transaction; those that fill a set, wholly.
func (t *Tx) Omit(elements []Object) {
	if len(elements) == 0 {
		return
	}
	omit := NewObjectSet(elements)
	for p, ops := range t.phases {
		t.phases[p] = slices.DeleteFunc(slices.Clone(ops), func(op Op) bool { return op.Kind == FillSet && omit.set(op.Family, op.SetName()) })
		for i := range t.phases[p] {
			if op := &t.phases[p][i]; op.onElements() && omit.set(op.Family, op.SetName()) {
				op.Elements = slices.DeleteFunc(slices.Clone(op.Elements), func(e Element) bool { return omit.element(op.Family, op.SetName(), e.Key) })
			}
		}
		t.phases[p] = slices.DeleteFunc(t.phases[p], func(op Op) bool { return op.onElements() && len(op.Elements) == 0 })
	}
}

func (o Op) onElements() bool {
	return o.Kind == AddElements || o.Kind == ReplaceElements || o.Kind == DeleteElements
}

// Ops returns the operations in order.
func (t *Tx) Ops() []Op {
	out := make([]Op, 0, t.Len())
	for _, p := range t.phases {
		out = append(out, p...)
	}
	return out
}

// EachRemoved calls fn for elements that the transaction takes away. Of a table that is replaced these are those that
// said where something was served, whether they come back or not.
func (t *Tx) EachRemoved(fn func(Family, SetID, []Element)) {
	for _, ops := range t.phases {
		for i := range ops {
			if ops[i].Kind == DeleteElements {
				fn(ops[i].Family, ops[i].Set, ops[i].Elements)
			}
			for _, se := range ops[i].Served {
				fn(ops[i].Family, se.Set, se.Elements)
			}
		}
	}
}

// Len returns the number of operations.
func (t *Tx) Len() int {
	n := 0
	for _, p := range t.phases {
		n += len(p)
	}
	return n
}

// Elements returns the number of elements that are added, replaced or deleted.
func (t *Tx) Elements() int {
	n := 0
	for _, p := range t.phases {
		for i := range p {
			n += len(p[i].Elements)
		}
	}
	return n
}

// mostThings is how many things Things names at most: beyond, everything is faster.
const mostThings = 256

// Things names what the transaction is about, with the chains that its elements go to. None: everything.
func (t *Tx) Things() []Thing {
	found := map[Thing]struct{}{}
	for _, op := range t.Ops() {
		if op.Kind == ResetTable || op.Kind == AddTable {
			return nil
		}
		for _, thing := range op.things() {
			found[thing] = struct{}{}
		}
		if len(found) > mostThings {
			return nil
		}
	}
	return slices.Collect(maps.Keys(found))
}

func (o Op) things() []Thing {
	thing := Thing{Family: o.Family}
	switch {
	case o.Kind == DeleteObject:
		thing.Kind = ThingOther
		return []Thing{thing}
	case o.Chain.Name != "":
		thing.Kind, thing.Name = ThingChain, o.Chain.Name
		return []Thing{thing}
	}
	thing.Name = o.SetName()
	if thing.Kind = ThingSet; !o.onElements() || o.Set.Kind.Interval() || len(o.Elements) > mostThings {
		return []Thing{thing}
	}
	var out []Thing
	for _, e := range o.Elements {
		thing.Kind, thing.Name, thing.Key = ThingElement, o.SetName(), e.Key
		out = append(out, thing)
		if e.Value.Goto != "" {
			out = append(out, Thing{Kind: ThingChain, Family: o.Family, Name: e.Value.Goto})
		}
	}
	return out
}

// Object names what an Op is about, as far as a message needs it.
type Object struct {
	Family  Family
	Table   string
	Kind    OpKind
	Chain   string
	Set     string
	Other   string   // what is neither a chain nor a set, with its kind
	Element *Element // nil for an object that is no element
}

// String describes the object and what was to be done with it. It is printable.
func (o Object) String() string {
	verb, what := "add", "table"
	switch o.Kind {
	case DeleteElements, DeleteChain, DeleteSet, DeleteObject:
		verb = "delete"
	case ReplaceChain, ReplaceElements, FillSet, ResetTable:
		verb = "replace"
	}
	switch {
	case o.Element != nil:
		return fmt.Sprintf("%s element of %s %s %s: %s", verb, o.Family, printable.Word(o.Table), printable.Word(o.Set), o.elementText())
	case o.Set != "":
		what = "set " + printable.Word(o.Set)
	case o.Chain != "":
		what = "chain " + printable.Word(o.Chain)
	case o.Other != "":
		what = o.Other
	}
	return fmt.Sprintf("%s %s of table %s %s", verb, what, o.Family, printable.Word(o.Table))
}

// Clone returns a copy of the state that shares no maps with it.
func (s State) Clone() State {
	out := State{Name: s.Name}
	for f, t := range s.Tables {
		if t == nil {
			continue
		}
		c := &Table{Chains: maps.Clone(t.Chains), Sets: make(map[SetID]map[Key]Value, len(t.Sets)),
			Affinity: maps.Clone(t.Affinity), Foreign: slices.Clone(t.Foreign),
			Objects: slices.Clone(t.Objects), Odd: slices.Clone(t.Odd),
			Counted: t.Counted, Counters: maps.Clone(t.Counters),
			SetOrder: slices.Clone(t.SetOrder), ChainOrder: slices.Clone(t.ChainOrder), Dormant: t.Dormant, Tenure: t.Tenure}
		for id, m := range c.Affinity {
			m.Clients = maps.Clone(m.Clients)
			c.Affinity[id] = m
		}
		for id, counters := range c.Counters {
			c.Counters[id] = maps.Clone(counters)
		}
		for id, set := range t.Sets {
			c.Sets[id] = maps.Clone(set)
		}
		out.Tables[f] = c
	}
	return out
}

// Apply returns the state after a transaction. It checks what the kernel checks:
// what is added is not there, what is replaced or deleted is, rules and elements
// refer to what exists, and nothing that is referred to goes. On an error, which
// names the operation, s is as it was.
func (s State) Apply(tx Tx) (State, error) {
	out := s.Clone()
	if out.Name == "" {
		out.Name = tx.Name
	}
	for _, op := range tx.Ops() {
		if err := out.apply(op); err != nil {
			return s, &OpError{Object: op.object(tx.Name), Err: err}
		}
	}
	if err := out.check(); err != nil {
		return s, err
	}
	return out, nil
}

// OpError says which object could not be changed.
type OpError struct {
	Object Object
	Err    error
}

// Error says what could not be done and why.
func (e *OpError) Error() string { return e.Object.String() + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

func (o Op) object(table string) Object {
	ob := Object{Family: o.Family, Table: table, Kind: o.Kind, Chain: o.Chain.Name}
	switch o.Kind {
	case AddSet, AddElements, FillSet, ReplaceElements, DeleteElements, DeleteSet:
		ob.Set = o.SetName()
	case DeleteObject:
		ob.Other = o.Odd.String()
	}
	if len(o.Elements) > 0 {
		ob.Element = &o.Elements[0]
	}
	return ob
}

func (o Object) elementText() string {
	id, _ := ParseSetID(o.Set)
	return elementText(id.Kind, *o.Element, "")
}

// Object names what the operation is about; of several elements, the first.
func (o Op) Object(table string) Object { return o.object(table) }

// SetName returns the name of the set that the operation is about.
func (o Op) SetName() string {
	if o.Foreign != "" {
		return o.Foreign
	}
	return o.Set.Name()
}
