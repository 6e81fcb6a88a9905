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

// mostWritten is how many things are remembered that were written and not read back yet. Beyond, everything is compared, but only
// once nothing was written for a while: that holds up changes.
const (
	mostWritten = 4096
	quiet       = time.Minute
)

// readBack says when to compare what was written with what the kernel holds. Kernels were seen to carry out a transaction otherwise
// than they said: see docs/reliability.md.
type readBack struct {
	list []written // the oldest first
	over bool      // there was more
	last time.Time // when something was written
	next time.Time // not before
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
			r.over = true
			continue
		}
		for _, t := range list[i].things {
			r.list = append(r.list, written{t, now})
		}
	}
}

// wait returns how long until something is to be read; false: nothing is.
func (r *readBack) wait(now time.Time) (time.Duration, bool) {
	var due time.Time
	switch {
	case len(r.list) > 0:
		due = r.list[0].at.Add(readBackAfter)
	case r.over:
		due = r.last.Add(quiet)
	default:
		return 0, false
	}
	if due.Before(r.next) {
		due = r.next
	}
	return max(due.Sub(now), 0), true
}

// take returns what is to be read now; none: nothing is.
func (r *readBack) take(now time.Time) []rules.Thing {
	if d, ok := r.wait(now); !ok || d > 0 {
		return nil
	}
	if len(r.list) == 0 {
		r.over = false
		return []rules.Thing{{Kind: rules.Everything}}
	}
	n, out := 0, make([]rules.Thing, 0, readBackAtOnce)
	seen := make(map[rules.Thing]struct{}, readBackAtOnce)
	for ; n < len(r.list) && len(out) < readBackAtOnce && now.Sub(r.list[n].at) >= readBackAfter; n++ {
		if t := r.list[n].Thing; !has(seen, t) {
			seen[t] = struct{}{}
			out = append(out, t)
		}
	}
	if r.list = r.list[n:]; len(r.list) == 0 {
		r.list = nil
	}
	return out
}

func has(set map[rules.Thing]struct{}, t rules.Thing) bool {
	_, ok := set[t]
	return ok
}

// done notes how long it took to read things.
func (r *readBack) done(now time.Time, _ []rules.Thing, took time.Duration) {
	r.next = now.Add(share(took, readBackShare))
}
