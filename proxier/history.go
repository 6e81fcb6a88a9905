// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Bounds of what is remembered.
const (
	// mostRecords is how many Records there are at most.
	mostRecords = 1000
	// mostRecorded is how many service ports, and how many endpoints of each that came and of each that went, a Record names.
	mostRecorded = 5
	// mostCompared is how many elements a service port may have to have its endpoints named.
	mostCompared = 2000
)

// Record tells of one time that the kernel's tables were written, or that it was tried.
type Record struct {
	// Number counts from 1.
	Number uint64
	// At is when it was over, and Took how long it took from when the changes were taken up.
	At   time.Time
	Took time.Duration
	// Delay is how long before At the oldest of the changes was made, as EndpointSlices tell; 0: they tell nothing of use.
	Delay time.Duration
	// Why is what for: 'changes of Services and endpoints', 'start', or why the tables were compared.
	Why string
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

// Recorded is a service port whose objects were written.
type Recorded struct {
	Owner rules.Owner
	// Backends is how many endpoints get connections now.
	Backends int
	// Came and Went are some of those that have come and gone, and the numbers are how many there are of each.
	Came, Went           []netip.AddrPort
	CameCount, WentCount int
}

// RefusedPort is a service port whose objects the kernel refuses.
type RefusedPort struct {
	Owner rules.Owner
	// Why has the kernel's reason, in a line.
	Why string
	// Since is when it was refused first, and NextTry when it is tried again.
	Since, NextTry time.Time
}

// history remembers what was done to the tables. It belongs to the goroutine that programs, and may be asked from others.
type history struct {
	mu      sync.Mutex
	records []Record // a ring once there are mostRecords
	last    uint64   // the number of the newest
	refused map[rules.Owner]RefusedPort
	feed    feed
}

func newHistory() *history { return &history{refused: map[rules.Owner]RefusedPort{}} }

// add adds a record of a transaction that has written some owners.
func (h *history) add(r Record, changed []cluster.Changed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	r.Number = h.last
	h.feed.add(h.last, changed)
	h.feed.tell()
	if len(h.records) < mostRecords {
		h.records = append(h.records, r)
		return
	}
	h.records[(h.last-1)%mostRecords] = r
}

// after returns the oldest records that are younger than a number, so many at most.
func (h *history) after(number uint64, most int) []Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.last - uint64(len(h.records))
	var out []Record
	for n := max(number, oldest); n < h.last && len(out) < most; n++ {
		out = append(out, h.records[n%mostRecords])
	}
	return out
}

// changed records that changes were programmed.
func (h *history) changed(began time.Time, ch *cluster.Changes, out *outcome, err error) {
	now := time.Now()
	r := Record{At: now, Took: now.Sub(began), Why: "changes of Services and endpoints", ServicePorts: len(out.after), Operations: out.written.Len()}
	switch {
	case out.adopted:
		r.Why, r.ServicePorts = "start", len(ch.Owners)
	case out.node && len(out.after) == 0:
		r.Why = "the node has changed"
	case len(out.after) == 0 && len(out.refusals) == 0 && err == nil:
		return
	}
	for _, byService := range ch.Triggers {
		for _, times := range byService {
			for _, t := range times {
				r.Delay = max(r.Delay, now.Sub(t))
			}
		}
	}
	for i := range out.after[:min(len(out.after), mostRecorded)] {
		r.Ports = append(r.Ports, record(out.before[i].Objects, &out.after[i]))
	}
	if err != nil {
		r.Refused = printable.Error(err)
	}
	for i := range out.refusals {
		if r.Refused == "" {
			r.Refused = printable.Error(out.refusals[i].err)
		}
	}
	h.add(r, ch.Owners)
}

// record tells in what the objects of a service port have changed.
func record(before rules.Objects, after *rules.Owned) Recorded {
	out := Recorded{Owner: after.Owner}
	if elements(&before) > mostCompared || elements(&after.Objects) > mostCompared {
		return out
	}
	was, is := before.Backends(), after.Objects.Backends()
	out.Backends = len(is)
	out.Came, out.CameCount = lacking(is, was)
	out.Went, out.WentCount = lacking(was, is)
	return out
}

func elements(o *rules.Objects) (n int) {
	for i := range o.Sets {
		n += len(o.Sets[i].Elements)
	}
	return n
}

// lacking returns what of a sorted list another one lacks: some of it, and how many there are.
func lacking(list, other []netip.AddrPort) (some []netip.AddrPort, n int) {
	for _, e := range list {
		if _, found := slices.BinarySearchFunc(other, e, netip.AddrPort.Compare); found {
			continue
		}
		if n++; n <= mostRecorded {
			some = append(some, e)
		}
	}
	return some, n
}

// repaired records that the tables were compared, and what was repaired.
func (h *history) repaired(began time.Time, why string, by []rules.Process, out *outcome, err error) {
	if out.written.Len() == 0 && err == nil {
		return
	}
	r := Record{At: time.Now(), Took: time.Since(began), Why: why, Operations: out.written.Len(), Repairs: describe(out.written)}
	if by != nil {
		r.By = processes(by)
	}
	if err != nil {
		r.Refused = printable.Error(err)
	}
	h.add(r, nil)
}

// setAside notes which service ports are set aside.
func (h *history) setAside(a *aside, refusals []refusal) {
	if len(refusals) == 0 && len(h.refused) == 0 { // only this goroutine writes
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range refusals {
		if r := &refusals[i]; r.owner.Name != "" {
			p := RefusedPort{Owner: r.owner, Why: printable.Error(r.err), Since: time.Now()}
			if before, ok := h.refused[r.owner]; ok {
				p.Since = before.Since
			}
			h.refused[r.owner] = p
		}
	}
	for o, p := range h.refused {
		f := a.failing[o]
		if f == nil {
			delete(h.refused, o)
			continue
		}
		p.NextTry = f.next
		h.refused[o] = p
	}
}

// refusedPorts returns the service ports that are set aside, sorted.
func (h *history) refusedPorts() []RefusedPort {
	h.mu.Lock()
	out := make([]RefusedPort, 0, len(h.refused))
	for _, r := range h.refused {
		out = append(out, r)
	}
	h.mu.Unlock()
	slices.SortFunc(out, func(a, b RefusedPort) int { return cluster.CompareOwners(a.Owner, b.Owner) })
	return out
}
