// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
)

const (
	disruptionPace = time.Second / 500 // of new connections
	disrupted      = 10                // Services that they go to, the first
	changePace     = 200 * time.Millisecond
	slow           = 200 * time.Millisecond // a connection that takes more has stalled
)

// lossPatience is how long a connection may take before it has failed: a lost SYN is sent
// again after one second, and after two more.
var lossPatience = unix.Timeval{Sec: 3}

// disruption makes connections while the proxy restarts, and while endpoints come and go.
func (r *runner) disruption(ctx context.Context) error {
	err := r.connecting(ctx, report.Restart, func(ctx context.Context, _ *removals) error {
		if err := r.stop(); err != nil {
			return err
		}
		if err := r.launch(); err != nil {
			return err
		}
		// Up to date again once a change gets through.
		_, err := r.change(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return r.connecting(ctx, report.Backends, func(ctx context.Context, gone *removals) error {
		begin := time.Now()
		for i := 0; time.Since(begin) < 4*window(r.plan); i++ {
			if err := r.replaceOne(ctx, i%disrupted, i/disrupted, gone); err != nil {
				return err
			}
			if err := sleep(ctx, changePace); err != nil {
				return err
			}
		}
		gone.forget()
		return r.restore(ctx)
	})
}

// replaceOne replaces one endpoint of a Service by another.
func (r *runner) replaceOne(ctx context.Context, service, turn int, gone *removals) error {
	from := (service + turn) % (pods / 2)
	old := r.site.addresses(from, 1)[0]
	fresh := r.site.addresses((from+endpoints)%(pods/2), 1)[0]
	gone.back(service, fresh)
	if err := r.site.update(ctx, webService(service), r.site.addresses((from+1)%(pods/2), endpoints)); err != nil {
		return err
	}
	gone.add(service, old)
	return nil
}

func (r *runner) restore(ctx context.Context) error {
	for i := range disrupted {
		if err := r.site.update(ctx, webService(i), r.site.usual(i)); err != nil {
			return err
		}
	}
	return nil
}

// connecting makes connections from before fn until some time after.
func (r *runner) connecting(ctx context.Context, target string, fn func(context.Context, *removals) error) error {
	going, stop := context.WithCancel(ctx)
	defer stop()
	gone := &removals{since: map[removal]time.Time{}}
	counts := &counts{}
	var done sync.WaitGroup
	done.Go(func() { r.connectOn(going, gone, counts) })
	err := sleep(ctx, window(r.plan)/2)
	if err == nil {
		err = fn(ctx, gone)
	}
	if err == nil {
		err = sleep(ctx, window(r.plan)/2)
	}
	stop()
	done.Wait()
	if err != nil {
		return fmt.Errorf("connections while %s: %w", target, err)
	}
	for metric, value := range map[string]float64{
		"attempts": float64(counts.attempts), "failed": float64(counts.failed), "stalled": float64(counts.stalled),
		"longest": milliseconds(counts.longest),
	} {
		r.add(metric, target, value)
	}
	if target == report.Backends {
		r.add("removed", target, float64(counts.removed))
		r.add("removed-longest", target, milliseconds(counts.removedLongest))
	}
	return nil
}

// connectOn starts connections at an even pace until ctx ends, and waits for them.
func (r *runner) connectOn(ctx context.Context, gone *removals, c *counts) {
	var running sync.WaitGroup
	defer running.Wait()
	start := time.Now()
	for i := 0; sleep(ctx, time.Until(start.Add(time.Duration(i)*disruptionPace))) == nil; i++ {
		running.Go(func() {
			service := i % disrupted
			begun := time.Now()
			var backend netip.Addr
			err := r.inPod(func() (err error) {
				begun = time.Now()
				backend, err = ask(addr(webService(service), askPort), lossPatience)
				return err
			})
			c.add(err, time.Since(begun), gone.lateness(service, backend, begun))
		})
	}
}

// counts is what became of connections.
type counts struct {
	mu                                 sync.Mutex
	attempts, failed, stalled, removed int
	longest, removedLongest            time.Duration
}

func (c *counts) add(err error, took, late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	if err != nil {
		c.failed++
		return
	}
	if took > slow {
		c.stalled++
	}
	c.longest = max(c.longest, took)
	if late > 0 {
		c.removed++
		c.removedLongest = max(c.removedLongest, late)
	}
}

// removals knows which endpoint is no longer one of which Service, and since when.
type removals struct {
	mu    sync.Mutex
	since map[removal]time.Time
}

type removal struct {
	service int
	backend netip.Addr
}

func (r *removals) add(service int, backend netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since[removal{service, backend}] = time.Now()
}

// back says that a backend is going to serve again.
func (r *removals) back(service int, backend netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.since, removal{service, backend})
}

// forget notes that all may come back.
func (r *removals) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.since)
}

// lateness returns how long after its removal a backend got a connection; 0: it was not
// removed when the connection began.
func (r *removals) lateness(service int, backend netip.Addr, begun time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone, ok := r.since[removal{service, backend}]; ok && begun.After(gone) {
		return begun.Sub(gone)
	}
	return 0
}
