// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/faults"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	// newcomersPace is the time between two new connections of one stream: with twelve
	// streams, 200 connections a second.
	newcomersPace = 60 * time.Millisecond
	// regularsPace is the time between two requests on an open connection.
	regularsPace = 150 * time.Millisecond
	// regularsPatience is how long an answer on an open connection may take.
	regularsPatience = 5 * time.Second
	// regularsPerStream is how many connections are opened to the address of a TCP
	// stream in each phase; to that of a UDP stream it is one.
	regularsPerStream = 2
)

// load is traffic to a service that goes on until end.
//
// Who takes a pod away deletes the flows of UDP to it. Of a datagram that is there just then the answer comes back from
// the pod's own address, which its client does not know, so that clients of UDP send again, as they do. That is no fault of
// the proxy; any other lost datagram is.
type load struct {
	streams  []*stream
	regulars []regular
	removals []removal
	going    context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// removal is a time in which a pod went away: from when that was asked for until new connections went elsewhere.
type removal struct{ from, to time.Time }

// onTheWay is how long before its pod goes away a datagram may have been sent, and how long after new connections go
// elsewhere: flows that are there already are deleted after the commit, one after the other.
const onTheWay = 2 * time.Second

// stream is new connections to one address.
type stream struct {
	name     string
	client   traffic.Client
	protocol traffic.Protocol
	to       netip.AddrPort

	mu       sync.Mutex
	attempts []attempt
}

type attempt struct {
	at time.Time // of its start
	traffic.Result
	again bool // the first datagram was lost
}

// regular is a connection that stays open.
type regular struct {
	*traffic.Regular
	name string
}

// startLoad connects to the service: from a pod and from the node to its ClusterIPs, and from outside to its
// NodePorts.
func (m *migration) startLoad() {
	m.t.Helper()
	l := &load{}
	l.going, l.stop = context.WithCancel(m.t.Context())
	m.load = l
	m.t.Cleanup(func() { l.stop(); l.running.Wait() })
	for _, ip := range m.service.Spec.ClusterIPs {
		f := netns.IPv4
		if netip.MustParseAddr(ip).Is6() {
			f = netns.IPv6
		}
		for i, p := range []traffic.Protocol{traffic.TCP, traffic.UDP} {
			l.add(m.Client, p, netip.AddrPortFrom(netip.MustParseAddr(ip), servicePort))
			l.add(m.Node, p, netip.AddrPortFrom(netip.MustParseAddr(ip), servicePort))
			l.add(m.Outside, p, netip.AddrPortFrom(m.Node.Addr(f), migrationNodePort+uint16(i)))
		}
	}
	for _, s := range l.streams {
		l.running.Go(func() { s.goOn(l.going, &l.running) })
	}
}

// open opens connections that stay, in a phase.
func (l *load) open(t *testing.T, phase string) {
	t.Helper()
	for _, s := range l.streams {
		n := 1
		if s.protocol == traffic.TCP {
			n = regularsPerStream
		}
		for range n {
			r := regular{openRegular(t, s), s.name + ", opened while " + phase}
			l.regulars = append(l.regulars, r)
			l.running.Go(func() { r.GoOn(context.WithoutCancel(l.going), l.going, regularsPace) })
		}
	}
}

func (l *load) add(from netns.Host, p traffic.Protocol, to netip.AddrPort) {
	l.streams = append(l.streams, &stream{name: fmt.Sprintf("from %s to %s %s", from.Name(), p, to),
		client: traffic.Client{NS: from.NS}, protocol: p, to: to})
}

// openRegular opens a connection and asks once.
func openRegular(t *testing.T, s *stream) *traffic.Regular {
	t.Helper()
	client := s.client
	client.Timeout = regularsPatience
	r, err := client.OpenRegular(t.Context(), s.protocol, s.to)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	r.Ask(t.Context())
	return r
}

// goOn connects without waiting for answers, at a pace that is even on average only: streams in step would
// each get the same turn in round robin again and again.
func (s *stream) goOn(going context.Context, running *sync.WaitGroup) {
	pace := time.NewTicker(newcomersPace)
	defer pace.Stop()
	for {
		select {
		case <-going.Done():
			return
		case <-pace.C:
		}
		pace.Reset(newcomersPace/2 + rand.N(newcomersPace))
		running.Go(func() {
			a := s.connect(context.WithoutCancel(going))
			s.mu.Lock()
			defer s.mu.Unlock()
			s.attempts = append(s.attempts, a)
		})
	}
}

// connect makes a new connection, and sends again what is lost of UDP.
func (s *stream) connect(ctx context.Context) attempt {
	a := attempt{at: time.Now()}
	if s.protocol != traffic.UDP {
		a.Result = s.client.Connect(ctx, s.protocol, s.to)
		return a
	}
	conn, err := s.client.Open(ctx, s.protocol, s.to)
	if err != nil {
		a.Result = traffic.Result{Outcome: traffic.Failed, Err: err}
		return a
	}
	defer func() { _ = conn.Close() }()
	if a.Result = conn.Ask(ctx); a.Outcome == traffic.TimedOut {
		a.again, a.Result = true, conn.Ask(ctx)
	}
	return a
}

// moment is how the log tells when something was.
const moment = "15:04:05.000"

// recent is how many connections show where new ones go: of three backends, one that
// is in use is missing among so many once in 3,000 times.
const recent = 20

// goTo returns nil if in each stream the latest connections since a time went to
// one host and not to another.
func (l *load) goTo(since time.Time, added, removed netns.Host) error {
	for _, s := range l.streams {
		s.mu.Lock()
		all := slices.Clone(s.attempts[max(0, len(s.attempts)-recent):])
		s.mu.Unlock()
		hits := traffic.Hits{}
		for _, a := range all {
			if a.at.Before(since) || a.Outcome != traffic.Answered {
				return fmt.Errorf("%s: %d connections, the first at %v: %s", s.name, len(all), a.at.Sub(since), a.Result)
			}
			hits[a.Backend]++
		}
		f := netns.IPv4
		if s.to.Addr().Is6() {
			f = netns.IPv6
		}
		if hits[netip.AddrPortFrom(added.Addr(f), backendPort)] == 0 || hits[netip.AddrPortFrom(removed.Addr(f), backendPort)] > 0 {
			return fmt.Errorf("%s: connections went to %v, want some to %s and none to %s", s.name, hits, added.Addr(f), removed.Addr(f))
		}
	}
	return nil
}

// end ends the load and says what became of it: every connection was answered.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.running.Wait()
	again := 0
	for _, s := range l.streams {
		for _, a := range s.attempts {
			if a.again {
				again++
			}
		}
		outage, failed, cause := longestOutage(s.attempts)
		t.Logf("%s: %d new connections, %d failed", s.name, len(s.attempts), failed)
		if failed > 0 {
			t.Errorf("%s: %d of %d new connections failed, at a stretch for %v at most: %v", s.name, failed, len(s.attempts), outage, cause)
		}
	}
	var asked int
	var slowest time.Duration
	for _, r := range l.regulars {
		asked += r.Asked
		again += len(r.Repeats)
		slowest = max(slowest, r.Slowest)
		if r.Lost != nil {
			t.Errorf("%s: an open connection was lost after %d requests: %v", r.name, r.Asked, r.Lost)
		}
	}
	for _, fault := range l.lostWithoutReason() {
		t.Errorf("%s; they did in %v", fault, l.removals)
	}
	t.Logf("%d open connections: %d requests, the slowest took %v", len(l.regulars), asked, slowest)
	t.Logf("%d datagrams were sent again after a pod had gone", again)
}

// counts is what became of the load, once it has ended, as the table of faults has it.
func (l *load) counts() faults.Counts {
	c := faults.Counts{Open: len(l.regulars)}
	for _, s := range l.streams {
		for _, a := range s.attempts {
			c.Connections++
			switch {
			case a.Outcome != traffic.Answered:
				c.Failed++
			case a.again || a.Elapsed > faults.Stalled:
				c.Stalled++
			}
			c.Longest = max(c.Longest, a.Elapsed)
		}
	}
	for _, r := range l.regulars {
		if r.Lost != nil {
			c.Lost++
		}
	}
	return c
}

// lostWithoutReason returns the datagrams of new and of open connections that were lost while no pod went away.
func (l *load) lostWithoutReason() (faults []string) {
	look := func(name string, sent time.Time) {
		if !l.removing(sent) {
			faults = append(faults, fmt.Sprintf("%s: a datagram was lost at %v, while no pod went away", name, sent))
		}
	}
	for _, s := range l.streams {
		for _, a := range s.attempts {
			if a.again {
				look(s.name, a.at)
			}
		}
	}
	for _, r := range l.regulars {
		for _, sent := range r.Repeats {
			look(r.name, sent)
		}
	}
	return faults
}

// removing says whether a datagram that was sent at a time may have been lost because a pod went away.
func (l *load) removing(sent time.Time) bool {
	return slices.ContainsFunc(l.removals, func(r removal) bool { return sent.After(r.from.Add(-onTheWay)) && sent.Before(r.to.Add(onTheWay)) })
}

// longestOutage returns the longest time from a connection that failed to the next one
// that did not, how many failed, and why the last of them did.
func longestOutage(attempts []attempt) (longest time.Duration, failed int, cause error) {
	slices.SortFunc(attempts, func(a, b attempt) int { return a.at.Compare(b.at) })
	var since time.Time
	for _, a := range attempts {
		if a.Outcome != traffic.Answered {
			failed++
			cause = fmt.Errorf("asked at %s: %w", a.at.Format(moment), a.Err)
			if since.IsZero() {
				since = a.at
			}
		}
		if !since.IsZero() {
			longest = max(longest, a.at.Sub(since))
		}
		if a.Outcome == traffic.Answered {
			since = time.Time{}
		}
	}
	return longest, failed, cause
}

// TestLostWithoutReason: a lost datagram is excused if a pod went away, be it of a new connection or of an open one.
func TestLostWithoutReason(t *testing.T) {
	t.Parallel()
	gone := removal{from: time.Unix(100, 0), to: time.Unix(110, 0)}
	during, before, after := time.Unix(105, 0), gone.from.Add(-2*onTheWay), gone.to.Add(2*onTheWay)
	l := &load{
		removals: []removal{gone},
		streams:  []*stream{{name: "new", attempts: []attempt{{at: before, again: true}, {at: during, again: true}, {at: after}}}},
		regulars: []regular{{&traffic.Regular{Repeats: []time.Time{gone.from, during, after}}, "open"}},
	}
	want := []string{
		fmt.Sprintf("new: a datagram was lost at %v, while no pod went away", before),
		fmt.Sprintf("open: a datagram was lost at %v, while no pod went away", after),
	}
	if got := l.lostWithoutReason(); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
