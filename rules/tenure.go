// SPDX-License-Identifier: Apache-2.0

package rules

import "fmt"

// Hold says whether tables are to have an owner.
type Hold uint8

// The values of Hold.
const (
	// HoldAsIs leaves tables as they are, and gives new ones no owner: for who only compares.
	HoldAsIs Hold = iota
	// HoldOwned is for tables that nobody but their owner may change, and that outlive it: with the flags owner and
	// persist, never with owner alone.
	HoldOwned
	// HoldFree is for tables that anybody may change.
	HoldFree
)

// Tenure says who may change a table. In a table as it should be only Wanted counts, in one as it is all the rest.
type Tenure struct {
	Wanted Hold
	// Owner says that only the socket whose netlink port is Port may change the table (flag owner, Linux 5.12).
	Owner bool
	// Persist says that the table stays when its owner's socket closes, then without an owner, and for others to change
	// and to take over (flag persist, Linux 6.9).
	Persist bool
	Port    uint32
	// Ours says that the owner's socket is that of the Kernel that read this.
	Ours bool
	// By is the owner's process, in a listing, if /proc tells.
	By Process
}

// Orphaned says that the owner is gone.
func (t Tenure) Orphaned() bool { return t.Persist && !t.Owner }

// Flags returns nft's names of the table's flags that are about ownership.
func (t Tenure) Flags() (names []string) {
	if t.Owner {
		names = append(names, "owner")
	}
	if t.Persist {
		names = append(names, "persist")
	}
	return names
}

// unfit says that a table cannot come to what is wanted while it stands: the kernel adds the flag persist to no table, takes it
// from none, and neither wakes nor switches off one that has an owner.
func (t Tenure) unfit(dormant bool, wanted Hold) bool {
	switch {
	case t.Wanted == wanted: // it is one as it should be, too
		return false
	case wanted == HoldOwned:
		return !t.Persist || t.Owner && dormant
	case wanted == HoldFree:
		return t.Owner || t.Persist
	}
	return false
}

// open says that a table is to be taken over.
func (t Tenure) open(wanted Hold) bool {
	return wanted == HoldOwned && t.Wanted != wanted && !(t.Owner && t.Ours)
}

// take returns the tenure of a table that an operation adds, or that stands and that it is about.
func (t Tenure) take(owned bool) (Tenure, error) {
	switch {
	case !owned:
		return t, nil
	case t.Owner || t.Persist:
		return Tenure{Owner: true, Persist: true, Ours: true}, nil
	}
	return t, fmt.Errorf("flags owner and persist: %w", ErrFlags)
}
