// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// way is from where to where a connection goes.
type way struct {
	*service
	protocol traffic.Protocol
	family   netns.Family
	from     netns.Host
	to       netip.AddrPort
}

func (w way) String() string {
	return fmt.Sprintf("%s over %s from %s to %s", w.protocol, w.family, w.from.Name(), w.to)
}

// ways chooses ways to Services that have always a ready endpoint.
type ways struct {
	*site
	of        map[traffic.Protocol][]*service
	nodePorts map[traffic.Protocol][]*service
}

func (s *site) ways() ways {
	out := ways{s, map[traffic.Protocol][]*service{}, map[traffic.Protocol][]*service{}}
	for _, svc := range s.services {
		if svc.role != steady && svc.role != rolled {
			continue
		}
		for _, p := range svc.protocols {
			out.of[p] = append(out.of[p], svc)
			if svc.nodePort != 0 {
				out.nodePorts[p] = append(out.nodePorts[p], svc)
			}
		}
	}
	return out
}

// random returns the way of the i-th connection: the protocols take turns, and one of eight goes from outside to a NodePort.
func (w ways) random(i int) way {
	all := traffic.Protocols()
	out := way{protocol: all[i%len(all)]}
	if list := w.nodePorts[out.protocol]; i/len(all)%8 == 0 && len(list) > 0 {
		out.service, out.from = pick(list), w.Outside
		out.family = pick(out.families)
		out.to = netip.AddrPortFrom(w.Node.Addr(out.family), out.nodePort)
		return out
	}
	out.service = pick(w.of[out.protocol])
	out.family, out.from = pick(out.families), pick([]netns.Host{w.Client, w.Client, w.Node, w.Local[0]})
	out.to = out.at(out.family)
	return out
}

// tally is what came of new connections.
type tally struct {
	mu      sync.Mutex
	made    int
	failed  int
	again   int           // a datagram was lost while its endpoint went away
	late    int           // were answered by an endpoint that had gone before
	latest  time.Duration // how long before, at most
	around  time.Duration // the same around a restart of the API server
	slowest time.Duration // of those that were answered, since the last sample
	overall time.Duration // the slowest of all
}

func (t *tally) add(a traffic.Result, again bool, late, back time.Duration, failed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made++
	if failed {
		t.failed++
		return
	}
	if again {
		t.again++
	} else {
		t.slowest, t.overall = max(t.slowest, a.Elapsed), max(t.overall, a.Elapsed)
	}
	if late > 0 {
		t.late++
		if back < mostLate {
			t.around = max(t.around, late)
		} else {
			t.latest = max(t.latest, late)
		}
	}
}

// snapshot is a tally at a moment. slowest is that since the last one.
type snapshot struct {
	Made, Failed, Again, Late int
	Latest, LatestAround      time.Duration
	Slowest, Overall          time.Duration
}

func (t *tally) take() snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := snapshot{t.made, t.failed, t.again, t.late, t.latest, t.around, t.slowest, t.overall}
	t.slowest = 0
	return out
}

// connect makes new connections at an even pace until going ends, and waits for them.
func (r *run) connect(ctx, going context.Context) {
	ways := r.ways()
	var running sync.WaitGroup
	defer running.Wait()
	start := time.Now()
	pace := time.Second / time.Duration(r.plan.Connections)
	for i := 0; wait(going, time.Until(start.Add(time.Duration(i)*pace))); i++ {
		w := ways.random(i)
		running.Go(func() { r.connectOnce(ctx, w) })
	}
}

// connectOnce makes a connection and writes down what became of it.
func (r *run) connectOnce(ctx context.Context, w way) {
	client, crowd := traffic.Client{NS: w.from.NS}, w.crowds[w.family]
	begun := time.Now()
	a := client.Connect(ctx, w.protocol, w.to)
	// Who takes an endpoint of UDP away deletes its flows: the answer that is on its way then comes from an
	// address that the client does not know. Clients of UDP send again, and so do those of SCTP.
	again := w.protocol != traffic.TCP && a.Outcome == traffic.TimedOut && crowd.removing(begun)
	if again {
		begun = time.Now()
		a = client.Connect(ctx, w.protocol, w.to)
	}
	if ctx.Err() != nil {
		return
	}
	back := r.restarts.since(begun)
	late, err := lateness(a, crowd, begun, back)
	r.tally.add(a, again, late, back, err != nil)
	if err != nil {
		r.diary.fail(begun, w.name, fmt.Sprintf("a new connection, %s", w), fmt.Errorf("%w%s", err, r.flows(w)))
	}
}

// lateness returns how long the endpoint that answered had been gone when the connection began. An error says what is wrong with
// the answer, for instance that it was gone for too long. back is how long the API server had been back.
func lateness(a traffic.Result, c *crowd, begun time.Time, back time.Duration) (late time.Duration, err error) {
	if a.Outcome != traffic.Answered {
		return 0, errors.New(a.String())
	}
	late, known := c.check(a.Backend.Addr(), begun)
	switch {
	case !known:
		return 0, fmt.Errorf("answered by %s, which never was an endpoint of the Service", a.Backend)
	case min(late, back) > mostLate:
		return late, fmt.Errorf("answered by %s, which the API server had confirmed to be gone %.1f s before", a.Backend, late.Seconds())
	}
	return late, nil
}

const (
	// openPace is the time between two requests on an open connection.
	openPace = 500 * time.Millisecond
	// openPatience is how long an answer may take: on a busy machine a while.
	openPatience = 20 * time.Second
)

// opened is a connection that stays open.
type opened struct {
	way
	*traffic.Regular
}

// openAll opens the connections that stay.
func (r *run) openAll(ctx context.Context) error {
	ways := r.ways()
	for i := range r.plan.Open {
		w := ways.random(i)
		for w.protocol == traffic.SCTP && w.role != steady {
			w = ways.random(i) // associations do not outlive their endpoint: see package conntrack
		}
		c, err := traffic.Client{NS: w.from.NS, Timeout: openPatience}.OpenRegular(ctx, w.protocol, w.to)
		if err != nil {
			return fmt.Errorf("open a connection to Service %s: %w", w.name, err)
		}
		r.open = append(r.open, &opened{w, c})
	}
	return nil
}

// askAll asks on all open connections until going ends.
func (r *run) askAll(ctx, going context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, o := range r.open {
		running.Go(func() {
			if !wait(going, rand.N(openPace)) {
				return
			}
			for wait(going, openPace) {
				if r.ask(ctx, o); o.Lost != nil {
					return
				}
			}
		})
	}
}

// ask asks once on an open connection.
func (r *run) ask(ctx context.Context, o *opened) {
	begun, repeats := time.Now(), len(o.Repeats)
	o.Ask(ctx)
	if ctx.Err() != nil {
		o.Lost = nil // it was cut off
		return
	}
	for _, sent := range o.Repeats[repeats:] {
		if o.Lost == nil && !o.crowds[o.family].removing(sent) {
			o.Lost = errors.New("a datagram was lost though no endpoint went away")
		}
	}
	if o.Lost != nil {
		r.diary.fail(begun, o.name, fmt.Sprintf("an open connection, %s, to %s, after %d requests", o.way, o.Backend, o.Asked), o.Lost)
	}
}

// closeAll closes the open connections.
func (r *run) closeAll() {
	for _, o := range r.open {
		_ = o.Close() // a fault would have shown before
	}
}

// forgetRequests keeps the servers from remembering for hours who asked them.
func (s *site) forgetRequests() {
	for _, server := range s.servers {
		server.Forget()
	}
}

// wait waits, and says whether ctx still goes on.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
