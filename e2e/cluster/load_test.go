// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// loadPace makes 200 connections a second.
const loadPace = 5 * time.Millisecond

// load is new TCP connections over all ways, in turn, until stop.
type load struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	made   int
	slow   int // took longer than TCP waits before it sends a lost packet again
	faults []traffic.Result
}

func (s *site) startLoad() *load {
	ctx, cancel := context.WithCancel(s.t.Context())
	l := &load{cancel: cancel}
	var ways []route
	for _, f := range netns.Families() {
		ways = append(ways, s.routes(f)...)
	}
	l.running.Go(func() {
		tick := time.NewTicker(loadPace)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.running.Go(func() { l.connect(ways[i%len(ways)]) })
			}
		}
	})
	return l
}

// connect makes one connection, which the end of the load does not cut off.
func (l *load) connect(r route) {
	client := traffic.Client{NS: r.from, Timeout: 5 * time.Second}
	result := client.Connect(context.Background(), traffic.TCP, r.to)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made++
	switch {
	case result.Outcome != traffic.Answered:
		l.faults = append(l.faults, result)
	case result.Elapsed > traffic.DefaultTimeout:
		l.slow++
	}
}

// under runs fn under load, of which nothing may be lost.
func (s *site) under(what string, fn func()) {
	s.t.Helper()
	l := s.startLoad()
	began := time.Now()
	fn()
	took := time.Since(began)
	l.cancel()
	l.running.Wait()
	s.t.Logf("%s under load: %.1f s, %d connections, %d slower than 0.95 s, %d lost", what, took.Seconds(), l.made, l.slow, len(l.faults))
	if len(l.faults) > 0 {
		s.t.Errorf("%s: %d of %d connections were lost; the first: %v", what, len(l.faults), l.made, l.faults[0])
	}
	if least := int(took / loadPace / 2); l.made < least {
		s.t.Errorf("%s: only %d connections in %v", what, l.made, took)
	}
}
