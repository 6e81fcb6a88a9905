// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"sync"
	"time"
)

// diary knows what was done lately, to say so when a connection fails.
type diary struct {
	began time.Time

	mu sync.Mutex
	// events are few: restarts and another program's changes. changes are those of Services.
	events, changes ring
	failures        []failure
	failed          int // more than are kept
	onFirst         func(failure)
}

// failure is a connection that failed, or another fault of the traffic.
type failure struct {
	Minute  float64  `json:"minute"` // since the begin, when it began
	At      string   `json:"at"`     // the time of day
	What    string   `json:"what"`
	Service string   `json:"service"`
	Error   string   `json:"error"`
	Then    []string `json:"then"` // what was done then
}

// entry is something that was done. Its end is zero as long as it goes on.
type entry struct {
	span
	service string // empty: it is about all
	text    string
}

// ring is the last entries.
type ring struct {
	list []*entry
	next int
}

func newRing(n int) ring { return ring{list: make([]*entry, n)} }

func (r *ring) add(e *entry) {
	r.list[r.next%len(r.list)] = e
	r.next++
}

// each calls fn for all entries, the oldest first.
func (r *ring) each(fn func(*entry)) {
	for i := range r.list {
		if e := r.list[(r.next+i)%len(r.list)]; e != nil {
			fn(e)
		}
	}
}

func newDiary(onFirst func(failure)) *diary {
	return &diary{began: time.Now(), events: newRing(128), changes: newRing(20000), onFirst: onFirst}
}

// did notes that something begins, and returns what notes its end.
func (d *diary) did(service, format string, args ...any) (ended func(error)) {
	e := &entry{span: span{from: time.Now()}, service: service, text: fmt.Sprintf(format, args...)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if service == "" {
		d.events.add(e)
	} else {
		d.changes.add(e)
	}
	return func(err error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		e.to = time.Now()
		if err != nil {
			e.text += ": " + err.Error()
		}
	}
}

const (
	// lately is how long before a failure what was done to its Service, or to everybody, may have to do with it.
	lately, justNow = 30 * time.Second, 3 * time.Second
	// mostFailures is how many are kept in full.
	mostFailures = 20
)

// fail notes a failure of what began at a time and ended now.
func (d *diary) fail(begun time.Time, service, what string, err error) {
	f := failure{Minute: begun.Sub(d.began).Minutes(), At: begun.UTC().Format("2006-01-02 15:04:05.000"), What: what, Service: service, Error: err.Error()}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed++
	if len(d.failures) == mostFailures {
		return
	}
	now := time.Now()
	note := func(e *entry) {
		end := "goes on"
		if !e.to.IsZero() {
			end = fmt.Sprintf("took %.3f s", e.to.Sub(e.from).Seconds())
		}
		f.Then = append(f.Then, fmt.Sprintf("%+.3f s: %s (%s)", e.from.Sub(begun).Seconds(), e.text, end))
	}
	d.events.each(func(e *entry) {
		if e.overlaps(begun.Add(-justNow), now) {
			note(e)
		}
	})
	d.changes.each(func(e *entry) {
		if e.service == service && e.overlaps(begun.Add(-lately), now) {
			note(e)
		}
	})
	d.failures = append(d.failures, f)
	if len(d.failures) == 1 {
		d.onFirst(f)
	}
}

// found returns the failures so far, and how many there were.
func (d *diary) found() ([]failure, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]failure{}, d.failures...), d.failed
}
