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

// Which part of a CPU's time the repairs of one thing take at most, where others change it again and again, and those of all
// things together: the next repair waits so much longer than the last one took, but no longer than a minute.
const (
	thingShare     = 0.025
	allShare       = 0.035
	lastRepairWait = time.Minute
)

// repairCredit is how much time repairs may take at once, after a rest, whatever their share; longestDebt is how much more than
// their share is remembered.
const (
	repairCredit = 400 * time.Millisecond
	longestDebt  = lastRepairWait / 1000 * 35 // allShare
)

// rest is how long nobody has touched a thing whose next repair counts as the first.
const rest = time.Minute

// mostRepairing is how many things are remembered: others may make new ones without end. mostNamed is how many processes are.
const (
	mostRepairing = 1000
	mostNamed     = 10
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
	// credit is how much time repairs may take now; below zero, they wait. It was so at a time.
	credit   time.Duration
	credited time.Time
	untold   int // repairs since the last message
	// tell and tellAgain are the pace of messages of first repairs and of others.
	tell, tellAgain *rate.Limiter
}

// repairing is a thing that was changed by others.
type repairing struct {
	pending bool
	times   int           // that it was repaired without a rest
	wait    time.Duration // after the last repair
	next    time.Time     // not to be repaired before; zero: it never was
}

func newRepairs() *repairs {
	return &repairs{things: map[rules.Thing]*repairing{}, credit: repairCredit,
		tell: rate.NewLimiter(rate.Every(tellPause), tellBurst), tellAgain: rate.NewLimiter(rate.Every(tellAgainPause), tellAgainBurst)}
}

// touch notes what others have changed.
func (r *repairs) touch(now time.Time, what rules.Touched) {
	for _, p := range what.By {
		if !slices.Contains(r.by, p) && len(r.by) < mostNamed {
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
		if !g.pending && now.Sub(g.next) > rest {
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
	if credit := r.creditAt(now); credit < 0 {
		wait = max(wait, share(-credit, allShare))
	}
	return max(wait, 0), true
}

// creditAt returns how much time repairs may take at a time.
func (r *repairs) creditAt(now time.Time) time.Duration {
	return min(r.credit+time.Duration(allShare*float64(now.Sub(r.credited))), repairCredit)
}

// share returns how long something must last of which a part takes so long.
func share(took time.Duration, part float64) time.Duration {
	return time.Duration(float64(took) / part)
}

// take returns the things that are due, and who touched any. No things: nothing is due.
func (r *repairs) take(now time.Time) rules.Touched {
	var out rules.Touched
	for t, g := range r.things {
		if g.pending && !now.Before(g.next) {
			out.Things = append(out.Things, t)
			g.pending = false
			g.times++
		}
	}
	if len(out.Things) == 0 {
		return out
	}
	out.By, r.by = r.by, nil
	return out
}

// done notes how long the repair of things took.
func (r *repairs) done(now time.Time, things []rules.Thing, took time.Duration) {
	r.credit, r.credited = max(r.creditAt(now)-took, -longestDebt), now
	for _, t := range things {
		if g := r.things[t]; g != nil {
			g.wait = min(share(took, thingShare), lastRepairWait)
			g.next = now.Add(g.wait)
		}
	}
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
