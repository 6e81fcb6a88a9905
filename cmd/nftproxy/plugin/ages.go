// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
)

// age is for how long something has been so: just that long, or at least.
type age struct {
	time  time.Duration
	exact bool
}

// ages are those of what a node says, by the node's own clock: clocks of nodes differ.
type ages struct {
	known      bool
	came, went map[string]age // by port, family and address, as in view.used
	before     age            // of endpoints that are not named
	written    age            // since the Service was written
}

// agesOf reads what an explanation says of its past. A clock that was set meanwhile makes nothing younger than now.
func agesOf(e *explain.Explanation) ages {
	h := e.History
	if h == nil || h.From.IsZero() {
		return ages{}
	}
	since := func(t time.Time) time.Duration { return max(0, h.At.Sub(t)) }
	a := ages{known: true, came: map[string]age{}, went: map[string]age{}, before: age{time: since(h.From)}}
	a.written = a.before
	if !h.Unnamed.IsZero() {
		a.before.time = min(a.before.time, since(h.Unnamed))
		a.written.time = a.before.time
	}
	if !h.Written.IsZero() {
		a.written.time = min(a.written.time, since(h.Written))
	}
	titles := map[[2]string]string{}
	for i := range e.Ports {
		titles[[2]string{e.Ports[i].Port, e.Ports[i].Family}] = titleOf(&e.Ports[i])
	}
	fill := func(into map[string]age, list []explain.Turn) {
		for _, t := range list {
			if title, ok := titles[[2]string{t.Port, t.Family}]; ok {
				into[title+" "+t.Address] = age{since(t.At), true}
			}
		}
	}
	fill(a.came, h.Came)
	fill(a.went, h.Went)
	return a
}

// has says for how long a node has had an endpoint, and lacks for how long it has had none there.
func (a *ages) has(key string) age   { return a.of(a.came, key) }
func (a *ages) lacks(key string) age { return a.of(a.went, key) }

func (a *ages) of(named map[string]age, key string) age {
	if found, ok := named[key]; ok {
		return found
	}
	return a.before
}

// both says for how long two things have been so together.
func both(a, b age) age {
	if b.time < a.time || b.time == a.time && b.exact {
		return b
	}
	return a // if that is at least so long, so is both
}

// middle returns the age that most nodes of a list have, about; false: none tells.
func middle(views []*view, of func(*view) age) (age, bool) {
	var list []age
	for _, v := range views {
		if v.known {
			list = append(list, of(v))
		}
	}
	if len(list) == 0 {
		return age{}, false
	}
	slices.SortFunc(list, func(a, b age) int { return cmp.Compare(a.time, b.time) })
	return list[len(list)/2], true
}

// forHowLong says for how long some nodes have had endpoints that others lack; nothing: they do not tell.
func forHowLong(keys []string, haveThem, lackThem []*view) string {
	var least, most age
	for i, key := range keys {
		had, ok := middle(haveThem, func(v *view) age { return v.has(key) })
		lacked, ok2 := middle(lackThem, func(v *view) age { return v.lacks(key) })
		if !ok || !ok2 {
			return ""
		}
		a := both(had, lacked)
		if i == 0 {
			least, most = a, a
		}
		exact := least.exact && a.exact
		least, most = age{min(least.time, a.time), exact}, age{max(most.time, a.time), exact}
	}
	from, to := duration(least.time), duration(most.time)
	switch {
	case !least.exact:
		return " for at least " + from
	case from == to:
		return " for " + from
	}
	return " for " + from + " to " + to
}

// unchanged says for how long nodes have been as they are; nothing: they do not tell.
func unchanged(most, here []*view) string {
	a, ok := middle(most, func(v *view) age { return v.written })
	b, ok2 := middle(here, func(v *view) age { return v.written })
	if !ok || !ok2 {
		return ""
	}
	return ", for at least " + duration(min(a.time, b.time))
}

// duration writes a time with two or three digits.
func duration(d time.Duration) string {
	const many = 120
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < many*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < many*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 2*24*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}
