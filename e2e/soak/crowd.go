// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// pod is a pod that may be an endpoint.
type pod struct {
	netns.Host
	name string
	node string // where it is
}

// endpoints are those that an EndpointSlice lists. What is terminating gets no connections while others are ready.
type endpoints struct{ ready, terminating []pod }

// crowd is the endpoints of a Service in a family. One goroutine, its writer, changes them; those who connect
// want to know who may answer.
type crowd struct {
	family netns.Family
	pods   []pod     // all that there are
	now    endpoints // of the writer alone

	mu sync.Mutex
	// present are those that may answer, left when others stopped to be endpoints.
	present map[netip.Addr]bool
	left    map[netip.Addr]time.Time
	// removals are the times in which endpoints went away lately.
	removals []span
}

// span is a time. The end is zero while it goes on.
type span struct{ from, to time.Time }

// overlaps says whether a part of another time that has ended is in it.
func (s span) overlaps(from, to time.Time) bool {
	return !s.from.After(to) && (s.to.IsZero() || !s.to.Before(from))
}

func newCrowd(f netns.Family, pods []pod, first, n int) *crowd {
	c := &crowd{family: f, pods: pods, present: map[netip.Addr]bool{}, left: map[netip.Addr]time.Time{}}
	for i := range min(n, len(pods)) {
		p := pods[(first+i)%len(pods)]
		c.now.ready = append(c.now.ready, p)
		c.present[p.Addr(f)] = true
	}
	return c
}

// change makes other endpoints of them: write tells the API server, and returns when it has confirmed. If
// write fails, nobody knows which endpoints there are: what was and what was to be may answer.
func (c *crowd) change(next endpoints, write func(endpoints) error) error {
	wanted := map[netip.Addr]bool{}
	usable := next.ready
	if len(usable) == 0 {
		usable = next.terminating
	}
	for _, p := range usable {
		wanted[p.Addr(c.family)] = true
	}
	removes := c.begin(wanted)
	if err := write(next); err != nil {
		return err
	}
	c.now = next
	c.end(wanted, removes)
	return nil
}

func (c *crowd) begin(wanted map[netip.Addr]bool) (removes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.present {
		removes = removes || !wanted[a]
	}
	for a := range wanted {
		c.present[a] = true
		delete(c.left, a)
	}
	if !removes {
		return false
	}
	now := time.Now()
	old := func(r span) bool { return now.Sub(r.to) > remembered }
	c.removals = append(slices.DeleteFunc(c.removals, old), span{from: now})
	return true
}

func (c *crowd) end(wanted map[netip.Addr]bool, removes bool) {
	if !removes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for a := range c.present {
		if !wanted[a] {
			delete(c.present, a)
			c.left[a] = now
		}
	}
	c.removals[len(c.removals)-1].to = now
}

// check says whether a pod may answer a connection that began at a time. If it was an endpoint before, late
// is how long before. Known is false if it was none.
func (c *crowd) check(answered netip.Addr, begun time.Time) (late time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present[answered] {
		return 0, true
	}
	left, known := c.left[answered]
	return max(0, begun.Sub(left)), known
}

// onTheWay is how long before its endpoint goes away a datagram may have been sent that is lost, and how long
// after: flows that are there are deleted after the commit, one after the other.
const onTheWay = 2 * time.Second

// remembered is how long a removal is: longer than any attempt takes to be given up.
const remembered = 2 * time.Minute

// removing says whether an endpoint went away when a datagram was sent, and its flow with it.
func (c *crowd) removing(sent time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.removals, func(r span) bool { return r.overlaps(sent.Add(-onTheWay), sent.Add(onTheWay)) })
}

// size is how many endpoints may answer.
func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.present)
}
