// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// defaultRecords is how many Records there are at most, by default.
const defaultRecords = 1000

// history remembers what was done to the tables. It belongs to the goroutine that programs, and may be asked from others.
type history struct {
	most uint64 // Records

	mu      sync.Mutex
	records []Record // a ring once there are so many
	last    uint64   // the number of the newest
	refused map[rules.Owner]RefusedPort
	drift   Drift
	feed    feed
}

func newHistory(most uint64) *history {
	return &history{most: most, refused: map[rules.Owner]RefusedPort{}}
}

// add adds a record of a transaction that has written some owners.
func (h *history) add(r Record, changed []cluster.Changed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	r.Number = h.last
	h.feed.add(h.last, changed)
	h.feed.tell()
	if uint64(len(h.records)) < h.most {
		h.records = append(h.records, r)
		return
	}
	h.records[(h.last-1)%h.most] = r
}

// after returns the oldest records that are younger than a number, so many at most.
func (h *history) after(number uint64, most int) []Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.last - uint64(len(h.records))
	var out []Record
	for n := max(number, oldest); n < h.last && len(out) < most; n++ {
		out = append(out, h.records[n%h.most])
	}
	return out
}

// changed records that changes were programmed.
func (h *history) changed(began time.Time, ch *cluster.Changes, out *outcome, err error) {
	now := time.Now()
	r := Record{Times: Times{At: now, Took: now.Sub(began)}, Why: "changes of Services and endpoints", ServicePorts: len(out.after), Operations: out.written.Len(), Causes: ch.Causes}
	switch {
	case out.adopted:
		h.compared(now, 0)
		r.Why, r.ServicePorts = "start", len(ch.Owners)
	case out.node && len(out.after) == 0:
		r.Why = "the node has changed"
	case len(out.after) == 0 && len(out.refusals) == 0 && err == nil:
		return
	}
	if r.Causes.Count == 0 && len(out.after) > 0 {
		r.Causes = cluster.Causes{List: []cluster.Cause{{Kind: cluster.CauseShares, What: "changed", At: began}}, Count: 1}
	}
	for i := range r.Causes.List {
		r.Waited = max(r.Waited, now.Sub(r.Causes.List[i].At))
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

// compared notes that everything was compared, and how many operations repaired what differed.
func (h *history) compared(at time.Time, repairs int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drift.Compared = at
	h.drift.Repairs += repairs
}

// stands notes why the kernel may not hold all that it should; nil: it does.
func (h *history) stands(unequal error) {
	why := ""
	if unequal != nil {
		why = printable.Error(unequal)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if why != "" && h.drift.Unequal == "" {
		h.drift.Since = time.Now()
	}
	h.drift.Unequal = why
}

// repaired records that the tables were compared, and what was repaired.
func (h *history) repaired(began time.Time, why string, whole bool, by []rules.Process, out *outcome, err error) {
	if whole && err == nil {
		h.compared(time.Now(), out.written.Len())
	}
	if out.written.Len() == 0 && err == nil {
		return
	}
	r := Record{Times: Times{At: time.Now(), Took: time.Since(began)}, Why: why, Operations: out.written.Len(), Repairs: describe(out.written)}
	if by != nil {
		r.By = processes(by)
	}
	if err != nil {
		r.Refused = printable.Error(err)
	}
	h.add(r, nil)
}

// repairs returns the last records of repairs, the oldest first.
func (h *history) repairs(most int) (out []Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := h.last; n > h.last-uint64(len(h.records)) && len(out) < most; n-- {
		if r := h.records[(n-1)%h.most]; r.Repairs != "" {
			out = append(out, r)
		}
	}
	slices.Reverse(out)
	return out
}

// setAside notes which service ports are set aside.
func (h *history) setAside(failing map[rules.Owner]time.Time, refusals []refusal) {
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
		next, ok := failing[o]
		if !ok {
			delete(h.refused, o)
			continue
		}
		p.NextTry = next
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
	slices.SortFunc(out, func(a, b RefusedPort) int { return a.Owner.Compare(b.Owner) })
	return out
}
