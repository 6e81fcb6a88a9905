// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// Regular is a connection that stays open and asks again and again: over TCP and SCTP one backend, over
// UDP one after another when pods go. Use it from one goroutine at a time, but for Steps.
type Regular struct {
	conn     *Conn
	protocol Protocol
	steps    atomic.Int64

	Backend netip.AddrPort // who answered last
	Asked   int
	Resent  int           // packets that TCP sent again
	Slowest time.Duration // of the answers
	// Repeats are when the datagrams were sent that were lost, and sent again.
	Repeats []time.Time
	// Lost is the first fault: there was no answer, or another backend's. A datagram that is lost is one
	// if the next one goes to the same backend. If it goes to another, the pod may have gone away: whether
	// one did at that time, who knows it has to check by Repeats. Nothing is asked after a fault.
	Lost error
}

// OpenRegular opens a connection. Nothing is asked yet.
func (c Client) OpenRegular(ctx context.Context, p Protocol, to netip.AddrPort) (*Regular, error) {
	conn, err := c.Open(ctx, p, to)
	if err != nil {
		return nil, err
	}
	return &Regular{conn: conn, protocol: p}, nil
}

// Steps is how often it was time to ask.
func (r *Regular) Steps() int64 { return r.steps.Load() }

// GoOn asks at a pace until going ends. What has been asked then is waited for, unless ctx ends.
func (r *Regular) GoOn(ctx, going context.Context, pace time.Duration) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-going.Done():
			return
		case <-tick.C:
		}
		r.Ask(ctx)
	}
}

// Ask asks once, and of UDP once more if there is no answer.
func (r *Regular) Ask(ctx context.Context) {
	r.steps.Add(1)
	if r.Lost != nil {
		return
	}
	sent := time.Now()
	answer := r.conn.Ask(ctx)
	again := r.protocol == UDP && answer.Outcome == TimedOut
	if again {
		r.Repeats = append(r.Repeats, sent)
		answer = r.conn.Ask(ctx)
	}
	r.note(answer, again)
}

// note takes an answer, which may be that to a datagram that was sent again.
func (r *Regular) note(answer Result, again bool) {
	r.Asked++
	r.Resent = answer.Resent // of all so far
	other := r.Backend.IsValid() && answer.Backend != r.Backend
	switch {
	case answer.Outcome != Answered:
		r.Lost = fmt.Errorf("%s: %w", answer.Outcome, answer.Err)
		return
	case r.protocol != UDP && other:
		r.Lost = fmt.Errorf("%s answered in place of %s", answer.Backend, r.Backend)
	case again && !other:
		r.Lost = fmt.Errorf("a datagram was lost, and %s, which answered before, answered the next one", answer.Backend)
	}
	r.Backend, r.Slowest = answer.Backend, max(r.Slowest, answer.Elapsed)
}

// Close closes the connection.
func (r *Regular) Close() error { return r.conn.Close() }
