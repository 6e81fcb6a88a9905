// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Bounds of what a Record tells.
const (
	// mostRecorded is how many service ports, and how many endpoints and frontends of each that came and that went, a Record names.
	mostRecorded = 5
	// mostCompared is how many elements a service port may have to have its endpoints named.
	mostCompared = 2000
)

// Record tells of one time that the kernel's tables were written, or that it was tried.
type Record struct {
	// Number counts from 1.
	Number uint64
	Times
	// Why is what for: 'changes of Services and endpoints', 'start', or why the tables were compared.
	Why string
	// Causes are what changed somewhere.
	Causes cluster.Causes
	// By are the programs that had changed the tables, as far as that is known.
	By string
	// ServicePorts is how many were written, and Ports are some of them.
	ServicePorts int
	Ports        []Recorded
	// Operations is what was written where the tables were compared, or filled, and Repairs names some of that.
	Operations int
	Repairs    string
	// Refused says what the kernel did not take.
	Refused string
}

// Times are those of a Record.
type Times struct {
	// At is when it was over, and Took how long it took from when the changes were taken up.
	At   time.Time
	Took time.Duration
	// Delay is how long before At the oldest of the changes was made, as EndpointSlices tell; 0: they tell nothing of use. Waited is
	// how long before At the first of them came in.
	Delay, Waited time.Duration
}

// Recorded is a service port whose objects were written.
type Recorded struct {
	Owner rules.Owner
	// Backends is how many endpoints get connections now.
	Backends int
	// Came and Went are some of those that have come and gone, and the numbers are how many there are of each.
	Came, Went           []netip.AddrPort
	CameCount, WentCount int
	// Begun and Ended are some of the frontends that are served since, or are no more, and the numbers are how many there are of each.
	Begun, Ended           []rules.Frontend
	BegunCount, EndedCount int
}

// RefusedPort is a service port whose objects the kernel refuses.
type RefusedPort struct {
	Owner rules.Owner
	// Why has the kernel's reason, in a line.
	Why string
	// Since is when it was refused first, and NextTry when it is tried again.
	Since, NextTry time.Time
}

// Drift is whether the kernel holds what it should, as far as that is known without another look.
type Drift struct {
	// Compared is when everything was compared last.
	Compared time.Time
	// Unequal says why the kernel may not hold all that it should, since Since; empty: it does.
	Unequal string
	Since   time.Time
	// Repairs is how many operations have repaired what comparisons of everything found.
	Repairs int
}

// record tells in what the objects of a service port have changed.
func record(before rules.Objects, after *rules.Owned) Recorded {
	out := Recorded{Owner: after.Owner}
	if elements(&before) > mostCompared || elements(&after.Objects) > mostCompared {
		return out
	}
	was, is := before.Backends(), after.Objects.Backends()
	out.Backends = len(is)
	out.Came, out.CameCount = lacking(is, was, netip.AddrPort.Compare)
	out.Went, out.WentCount = lacking(was, is, netip.AddrPort.Compare)
	had, has := frontends(before, after.Owner.Family), frontends(after.Objects, after.Owner.Family)
	out.Begun, out.BegunCount = lacking(has, had, rules.Frontend.Compare)
	out.Ended, out.EndedCount = lacking(had, has, rules.Frontend.Compare)
	return out
}

func elements(o *rules.Objects) (n int) {
	for i := range o.Sets {
		n += len(o.Sets[i].Elements)
	}
	return n
}

// lacking returns what of a sorted list another one lacks: some of it, and how many there are.
func lacking[T any](list, other []T, compare func(T, T) int) (some []T, n int) {
	for _, e := range list {
		if _, found := slices.BinarySearchFunc(other, e, compare); found {
			continue
		}
		if n++; n <= mostRecorded {
			some = append(some, e)
		}
	}
	return some, n
}

// frontends returns where objects serve clients, sorted.
func frontends(o rules.Objects, f rules.Family) []rules.Frontend {
	out := o.Frontends(f)
	slices.SortFunc(out, rules.Frontend.Compare)
	return slices.Compact(out)
}
