// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// When what was written is read back: so long after it was, so many things at once, with such a part of a CPU's time at most.
const (
	readBackAfter  = 2 * time.Second
	readBackAtOnce = 64
	readBackShare  = 0.01
)

// mostWritten is how many things are remembered that were written and not read back yet. Beyond, everything is compared: that holds up
// changes, so once nothing was written for a while, or at latest, where nothing is ever quiet.
const (
	mostWritten = 4096
	quiet       = time.Minute
	atLatest    = 10 * time.Minute
)

// readBack says when to compare what was written with what the kernel holds. Kernels were seen to carry out a transaction otherwise
// than they said: see docs/reliability.md.
type readBack struct {
	list  []written                // the oldest first
	known map[rules.Thing]struct{} // those in the list: what is written again before it is read is read once
	over  time.Time                // since when there was more; zero: there was not
	last  time.Time                // when something was written
	next  time.Time                // not before
}

// written is a thing that was written at a time.
type written struct {
	rules.Thing
	at time.Time
}

// note notes what was written.
func (r *readBack) note(now time.Time, list []transaction) {
	for i := range list {
		if list[i].err != nil || len(list[i].things) == 0 {
			continue
		}
		r.last = now
		if rules.All(list[i].things) || len(r.list)+len(list[i].things) > mostWritten {
			if r.over.IsZero() {
				r.over = now
			}
			continue
		}
		for _, t := range list[i].things {
			if _, waits := r.known[t]; waits {
				continue
			}
			if r.known == nil {
				r.known = map[rules.Thing]struct{}{}
			}
			r.known[t] = struct{}{}
			r.list = append(r.list, written{t, now})
		}
	}
}

// wait returns how long until something is to be read; false: nothing is.
func (r *readBack) wait(now time.Time) (time.Duration, bool) {
	due := r.everythingDue()
	if len(r.list) > 0 {
		if some := r.list[0].at.Add(readBackAfter); due.IsZero() || some.Before(due) {
			due = some
		}
	}
	if due.IsZero() {
		return 0, false
	}
	if due.Before(r.next) {
		due = r.next
	}
	return max(due.Sub(now), 0), true
}

// everythingDue returns when everything is to be compared; zero: that is not to be.
func (r *readBack) everythingDue() time.Time {
	if r.over.IsZero() {
		return time.Time{}
	}
	due, latest := r.last.Add(quiet), r.over.Add(atLatest)
	if latest.Before(due) {
		return latest
	}
	return due
}

// take returns what is to be read now; none: nothing is.
func (r *readBack) take(now time.Time) []rules.Thing {
	if d, ok := r.wait(now); !ok || d > 0 {
		return nil
	}
	if due := r.everythingDue(); !due.IsZero() && !due.After(now) {
		*r = readBack{last: r.last, next: r.next}
		return []rules.Thing{{Kind: rules.Everything}}
	}
	out := make([]rules.Thing, 0, readBackAtOnce)
	for _, w := range r.list {
		if len(out) == readBackAtOnce || now.Sub(w.at) < readBackAfter {
			break
		}
		out = append(out, w.Thing)
		delete(r.known, w.Thing)
	}
	if r.list = r.list[len(out):]; len(r.list) == 0 {
		r.list, r.known = nil, nil
	}
	return out
}

// done notes how long it took to read things.
func (r *readBack) done(now time.Time, _ []rules.Thing, took time.Duration) {
	r.next = now.Add(share(took, readBackShare))
}
