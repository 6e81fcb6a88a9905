// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
)

// How long the next repair of a thing waits after the first one, and at most. One that nobody has touched for so
// long again is repaired at once, as if for the first time.
const (
	firstRepairWait = time.Second
	lastRepairWait  = time.Minute
)

// Repairs of things that were not repaired before wait for nothing, but so many at once and then one a second: others
// may make new ones without end. Nor are more things remembered than so many.
const (
	repairBurst   = 10
	repairPace    = 1 // a second
	mostRepairing = 1000
)

// How often the log tells of first repairs of things, and of later ones: so many at once, then one each pause.
const (
	tellBurst      = 10
	tellPause      = time.Minute
	tellAgainBurst = 1
	tellAgainPause = 10 * time.Minute
)

// repairs says when things that others have changed are compared and repaired. Two programs that both want to have
// the last word must not be busy with each other.
type repairs struct {
	things map[rules.Thing]*repairing
	by     []rules.Process
	pace   *rate.Limiter // of repairs that need not wait
	untold int           // repairs since the last message
	// tell and tellAgain are the pace of messages of first repairs and of others.
	tell, tellAgain *rate.Limiter
}

// repairing is a thing that was changed by others.
type repairing struct {
	pending bool
	times   int           // that it was repaired without a rest
	wait    time.Duration // after the last repair
	next    time.Time     // not to be repaired before
}

func newRepairs() *repairs {
	return &repairs{things: map[rules.Thing]*repairing{},
		pace: rate.NewLimiter(repairPace, repairBurst),
		tell: rate.NewLimiter(rate.Every(tellPause), tellBurst), tellAgain: rate.NewLimiter(rate.Every(tellAgainPause), tellAgainBurst)}
}

// touch notes what others have changed.
func (r *repairs) touch(now time.Time, what rules.Touched) {
	for _, p := range what.By {
		if !slices.Contains(r.by, p) && len(r.by) < repairBurst {
			r.by = append(r.by, p)
		}
	}
	r.forget(now)
	things := what.Things
	if len(things) == 0 || len(r.things)+len(things) > mostRepairing {
		things = []rules.Thing{{Kind: rules.Everything}}
	}
	for _, t := range things {
		g := r.things[t]
		if g == nil {
			g = &repairing{}
			r.things[t] = g
		}
		g.pending = true
	}
}

// forget drops what has had its rest.
func (r *repairs) forget(now time.Time) {
	for t, g := range r.things {
		if !g.pending && now.Sub(g.next) > g.wait {
			delete(r.things, t)
		}
	}
}

// wait returns how long until something is due; false: nothing is pending.
func (r *repairs) wait(now time.Time) (time.Duration, bool) {
	var first time.Time
	pending := false
	for _, g := range r.things {
		if g.pending && (!pending || g.next.Before(first)) {
			first, pending = g.next, true
		}
	}
	if !pending {
		return 0, false
	}
	wait := first.Sub(now)
	if tokens := r.pace.TokensAt(now); tokens < 1 {
		wait = max(wait, time.Duration((1-tokens)/repairPace*float64(time.Second)))
	}
	return max(wait, 0), true
}

// take returns the things that are due, which count as repaired now, and who touched any. No things: nothing is due.
func (r *repairs) take(now time.Time) rules.Touched {
	var out rules.Touched
	for t, g := range r.things {
		if g.pending && !now.Before(g.next) {
			out.Things = append(out.Things, t)
			g.pending = false
			g.times++
			g.wait = min(max(2*g.wait, firstRepairWait), lastRepairWait)
			g.next = now.Add(g.wait)
		}
	}
	if len(out.Things) == 0 {
		return out
	}
	r.pace.AllowN(now, 1)
	out.By, r.by = r.by, nil
	return out
}

// told says whether the log should tell of a repair of things, and of how many repairs it has not told before.
// A thing's first repair is told of, and that there are more; not each of them.
func (r *repairs) told(now time.Time, things []rules.Thing) (tell bool, untold int) {
	r.untold++
	pace := r.tell
	if _, again := r.again(things); again {
		pace = r.tellAgain
	}
	if !pace.AllowN(now, 1) {
		return false, 0
	}
	untold, r.untold = r.untold-1, 0
	return true, untold
}

// again says whether one of the things was repaired before, without a rest since, and how long the next repair
// waits at most.
func (r *repairs) again(things []rules.Thing) (wait time.Duration, again bool) {
	for _, t := range things {
		if g := r.things[t]; g != nil && g.times > 1 {
			wait, again = max(wait, g.wait), true
		}
	}
	return wait, again
}

// processes names processes.
func processes(list []rules.Process) string {
	if len(list) == 0 {
		return "unknown"
	}
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = fmt.Sprintf("%s (pid %d)", printable.Word(p.Name), p.PID)
	}
	return strings.Join(out, ", ")
}

// mostDescribed is how many operations a message names.
const mostDescribed = 3

// describe names what a transaction does.
func describe(tx rules.Tx) string {
	var out []string
	for i, op := range tx.Ops() {
		if i == mostDescribed {
			out = append(out, fmt.Sprintf("and %d more", tx.Len()-i))
			break
		}
		what := op.Object(tx.Name).String()
		if n := len(op.Elements); n > 1 {
			what = fmt.Sprintf("%s (and %d more)", what, n-1)
		}
		out = append(out, what)
	}
	return strings.Join(out, "; ")
}
