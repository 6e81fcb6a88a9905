// SPDX-License-Identifier: Apache-2.0

package rules

import "slices"

// ThingKind says what a Thing is.
type ThingKind uint8

// The kinds of things.
const (
	Everything   ThingKind = iota // both tables with all that is in them
	ThingTable                    // a table itself, without what is in it
	ThingChain                    // a chain with its rules
	ThingSet                      // a set or map with its elements
	ThingElement                  // an element of a set or map
	ThingOther                    // what a table has besides, such as counters and flowtables: all of it
)

// Thing names an object in the tables that may not be as it should be: ours, or one that somebody else put there.
type Thing struct {
	Kind   ThingKind
	Family Family
	Name   string // of a chain, or of a set or an element's set
	Key    Key    // of an element
}

// All says whether a list of things means everything: there are none, or one is Everything.
func All(things []Thing) bool {
	return len(things) == 0 || slices.ContainsFunc(things, func(t Thing) bool { return t.Kind == Everything })
}

// Process is who changed something. The name is what the process calls itself: anything at all.
type Process struct {
	PID  uint32
	Name string
}

// Touched says what others have changed.
type Touched struct {
	// Things are what they changed; none: that is not known.
	Things []Thing
	// By are the processes, as far as they are known.
	By []Process
}

// Part is a part of a table, as the kernel holds it: those objects that are named. What is named and not in
// Table does not exist.
type Part struct {
	Family Family
	Table  *Table // nil: there is no such table
	Chains []string
	Sets   []SetID
	// Keys are elements, of sets that have others besides, which the part does not tell of.
	Keys map[SetID][]Key
	// Counting says that Table.Counted is known.
	Counting bool
	// Head says that the table's own attributes are known: its Tenure and whether it is Dormant.
	Head bool
}

// Parts takes what is read from a kernel part by part. Begin comes first, and again when the parts so far are void.
type Parts interface {
	Begin()
	Part(p Part)
}
