// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	// loadPace makes 200 connections a second.
	loadPace  = 5 * time.Millisecond
	leastRate = 190 // connections a second
	// patience is more than a lost packet takes to be sent again, or a busy machine to answer.
	patience = 10 * time.Second
	// regularsPace is the time between two requests on an open connection.
	regularsPace = 100 * time.Millisecond
)

// load is new TCP connections over all ways, in turn, and one over each way that
// stays open, until stop.
type load struct {
	t        *testing.T
	what     string // is going on meanwhile
	began    time.Time
	took     time.Duration // valid after stop
	cancel   context.CancelFunc
	running  sync.WaitGroup
	regulars []regular

	mu       sync.Mutex
	attempts []attempt // in the order of their ends
}

// attempt is a new connection.
type attempt struct {
	route
	traffic.Result
	at time.Time // its begin
}

// fault tells whether it, or a packet of it, was lost.
func (a attempt) fault() bool { return a.Outcome != traffic.Answered || a.Resent > 0 }

// regular is a connection that stays open.
type regular struct {
	route
	*traffic.Regular
}

func (s *site) startLoad(what string) *load {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	l := &load{t: s.t, what: what, cancel: cancel}
	s.t.Cleanup(l.stop)
	var ways []route
	for _, f := range netns.Families() {
		ways = append(ways, s.routes(f)...)
	}
	for _, r := range ways {
		one, err := traffic.Client{NS: r.from, Timeout: patience}.OpenRegular(ctx, traffic.TCP, r.to)
		must(s.t, err)
		s.t.Cleanup(func() { _ = one.Close() })
		l.regulars = append(l.regulars, regular{r, one})
	}
	l.began = time.Now()
	l.running.Go(func() { l.goOn(ctx, ways) })
	for _, r := range l.regulars {
		l.running.Go(func() { r.GoOn(context.Background(), ctx, regularsPace) })
	}
	l.more(50)
	return l
}

// goOn connects at an even pace, and catches up where this machine was too busy for it.
func (l *load) goOn(ctx context.Context, ways []route) {
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(l.began.Add(time.Duration(i) * loadPace))):
		}
		l.running.Go(func() { l.connect(ways[i%len(ways)]) })
	}
}

// connect makes one connection, which the end of the load does not cut off.
func (l *load) connect(r route) {
	a := attempt{route: r, at: time.Now()}
	a.Result = traffic.Client{NS: r.from, Timeout: patience}.Connect(context.Background(), traffic.TCP, r.to)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts = append(l.attempts, a)
}

// more waits until so many more connections have ended.
func (l *load) more(n int) {
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.attempts)
	}
	for goal := count() + n; count() < goal && l.t.Context().Err() == nil; {
		time.Sleep(loadPace)
	}
}

// stop ends the load and waits for its end. Its findings can be read afterwards.
func (l *load) stop() {
	if l.t.Context().Err() == nil && l.took == 0 {
		l.took = time.Since(l.began)
	}
	l.cancel()
	l.running.Wait()
}

// under runs fn under load, of which nothing may be lost.
func (s *site) under(what string, fn func()) {
	s.t.Helper()
	l := s.startLoad(what)
	fn()
	l.more(50)
	l.stop()
	l.report()
	l.wantFaultsOnly(time.Time{}, 0)
	s.wantRegulars(l)
}

// report says what became of the load.
func (l *load) report() {
	l.t.Helper()
	var lost, late, asked, ended, resent int
	var slowest, slowestAnswer time.Duration
	for _, a := range l.attempts {
		switch {
		case a.Outcome != traffic.Answered:
			lost++
		case a.fault():
			late++
		default:
			slowest = max(slowest, a.Elapsed)
		}
	}
	for _, r := range l.regulars {
		asked, resent = asked+r.Asked, resent+r.Resent
		slowestAnswer = max(slowestAnswer, r.Slowest)
		if r.Lost != nil {
			ended++
		}
	}
	l.t.Logf("%s under load: %.1f s, %d new connections, %.1f a second: %d lost, %d late for a lost packet, the slowest of the others %v",
		l.what, l.took.Seconds(), len(l.attempts), l.rate(), lost, late, slowest.Round(time.Millisecond))
	l.t.Logf("%d open connections with %d requests: %d ended, %d packets were sent again, the slowest answer took %v",
		len(l.regulars), asked, ended, resent, slowestAnswer.Round(time.Millisecond))
}

func (l *load) rate() float64 { return float64(len(l.attempts)) / l.took.Seconds() }

// lastFault returns when the last connection began that was lost or late.
func (l *load) lastFault() time.Time {
	var last time.Time
	for _, a := range l.attempts {
		if a.fault() && a.at.After(last) {
			last = a.at
		}
	}
	return last
}

// wantFaultsOnly wants as many connections as the load's pace makes, and none lost or late
// but those that began before a time, and of them not more than a share.
func (l *load) wantFaultsOnly(before time.Time, share float64) {
	l.t.Helper()
	if l.rate() < leastRate {
		l.t.Errorf("%s: %.1f connections a second, want %d", l.what, l.rate(), leastRate)
	}
	early, faultsEarly := 0, 0
	var late []attempt
	for _, a := range l.attempts {
		switch {
		case a.at.Before(before):
			early++
			if a.fault() {
				faultsEarly++
			}
		case a.fault():
			late = append(late, a)
		}
	}
	// The last round over the endpoints is not complete on every way.
	if most := int(share*float64(early)) + len(l.regulars); faultsEarly > most {
		l.t.Errorf("%s: %d of %d connections were lost or late, want %d at most", l.what, faultsEarly, early, most)
	}
	slices.SortFunc(late, func(a, b attempt) int { return a.at.Compare(b.at) })
	for i, a := range late {
		if i == 10 {
			l.t.Errorf("%s: %d connections were lost or late", l.what, len(late))
			break
		}
		l.t.Errorf("%s: lost or late, %.3f s after the start, %s: %v, in %v, with %d packets sent again",
			l.what, a.at.Sub(l.began).Seconds(), a.route, a.Result, a.Elapsed, a.Resent)
	}
}

// wantRegulars wants that nothing was lost on the open connections to endpoints that are still
// there, and that there are some.
func (s *site) wantRegulars(l *load) {
	s.t.Helper()
	var present []netip.AddrPort
	for _, f := range netns.Families() {
		endpoints, err := s.endpoints(s.t.Context(), "web", f)
		must(s.t, err)
		for _, e := range endpoints {
			present = append(present, e.at)
		}
	}
	stayed := 0
	for _, r := range l.regulars {
		if r.Backend.IsValid() && !slices.Contains(present, r.Backend) {
			continue
		}
		stayed++
		if r.Lost != nil || r.Resent > 0 {
			s.t.Errorf("%s: an open connection %s, to %s, after %d requests and %d packets sent again: %v",
				l.what, r.route, r.Backend, r.Asked, r.Resent, r.Lost)
		}
	}
	s.t.Logf("%d open connections are to pods that stayed", stayed)
	if stayed == 0 {
		s.t.Errorf("%s: no open connection was to a pod that stayed", l.what)
	}
}
