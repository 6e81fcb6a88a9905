// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	// Stalled is what takes longer than a user would call prompt.
	Stalled = 150 * time.Millisecond
	// pace is the time between two new connections of a stream, on average, and between two questions on an open one.
	pace = 40 * time.Millisecond
	// resend is after how long clients of UDP and SCTP first send again what got no answer. Then they wait twice as long each time, as
	// TCP does: on a busy machine an answer may take longer than a second, and it counts only while its question is the last one.
	resend = time.Second
)

// patience is how long a connection may take before it has failed: TCP sends its SYN again after 1, 2, 4 s, or more often.
func patience() time.Duration { return netns.Patience() / 2 }

// Target is where connections go.
type Target struct {
	From     netns.Host
	Protocol traffic.Protocol
	To       netip.AddrPort
	// Direct says that it is no Service: what stalls there says how busy the machine is. It is counted apart.
	Direct bool
}

func (t Target) String() string {
	return fmt.Sprintf("from %s to %s %s", t.From.Name(), t.Protocol, t.To)
}

// Load is traffic that goes on until End: new connections to all targets, each stream at a pace of its own and without
// waiting for answers, and one connection that stays open to each target of TCP.
type Load struct {
	going   context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	open    []*open
	made    atomic.Int64

	mu     sync.Mutex
	counts Counts
}

// Counts is what became of a Load.
type Counts struct {
	// Connections were made, Failed of them got no answer in time, and Stalled got it after more than 150 ms.
	Connections, Failed, Stalled int
	// Direct connections went straight to a pod, and DirectStalled of them stalled.
	Direct, DirectStalled int
	// DirectFailed of the direct ones failed. No fault of nftproxy does that: the machine stood still.
	DirectFailed int
	// Open connections there were, and Lost of them broke or got no more answers.
	Open, Lost int
	// Longest is the time of the slowest connection that did not fail.
	Longest time.Duration
	// Errs are why some failed or were lost.
	Errs []error
}

// Starved says whether the machine was too busy to tell anything by what failed: of the connections that went straight to a pod some
// failed, too, or a fifth stalled.
func (c *Counts) Starved() bool { return c.DirectFailed > 0 || 5*c.DirectStalled > c.Direct }

// mostErrs is how many errors are kept.
const mostErrs = 10

// Err returns an error if a connection failed or was lost.
func (c *Counts) Err() error {
	if c.Failed+c.Lost == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d connections failed, %d of %d open ones were lost: %w", c.Failed, c.Connections, c.Lost, c.Open, errors.Join(c.Errs...))
}

// open is a connection that stays.
type open struct {
	*traffic.Regular
	target Target
}

// Start begins traffic to targets. Each must answer: the open connections are made before it returns.
func Start(ctx context.Context, targets ...Target) (*Load, error) {
	l := &Load{}
	l.going, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, t := range targets {
		if t.Protocol != traffic.TCP || t.Direct {
			continue
		}
		r, err := traffic.Client{NS: t.From.NS, Timeout: patience()}.OpenRegular(ctx, t.Protocol, t.To)
		if err != nil {
			l.End()
			return nil, fmt.Errorf("open a connection %s: %w", t, err)
		}
		l.open = append(l.open, &open{r, t})
	}
	for _, o := range l.open {
		l.running.Go(func() { o.GoOn(context.WithoutCancel(ctx), l.going, pace) })
	}
	for _, t := range targets {
		l.running.Go(func() { l.stream(t) })
	}
	return l, nil
}

// stream makes new connections at a pace that is even on average only.
func (l *Load) stream(t Target) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-l.going.Done():
			return
		case <-time.After(pace/2 + rand.N(pace)):
		}
		running.Go(func() {
			took, err := connect(context.WithoutCancel(l.going), t)
			l.note(t, took, err)
		})
	}
}

// connect makes one connection and asks once. UDP and SCTP ask again, from the same socket, as their clients do.
func connect(ctx context.Context, t Target) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience())
	defer cancel()
	client := traffic.Client{NS: t.From.NS, Timeout: patience()}
	begin := time.Now()
	if t.Protocol == traffic.TCP {
		r := client.Connect(ctx, t.Protocol, t.To)
		return time.Since(begin), failure(r)
	}
	conn, err := client.Open(ctx, t.Protocol, t.To)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	r := askAgain(ctx, conn.Ask)
	return time.Since(begin), failure(r)
}

// askAgain asks until there is an answer or a refusal, or ctx has ended.
func askAgain(ctx context.Context, ask func(context.Context) traffic.Result) traffic.Result {
	for wait := resend; ; wait *= 2 {
		try, end := context.WithTimeout(ctx, wait)
		r := ask(try)
		end()
		if r.Outcome != traffic.TimedOut || ctx.Err() != nil {
			return r
		}
	}
}

func failure(r traffic.Result) error {
	if r.Outcome == traffic.Answered {
		return nil
	}
	return fmt.Errorf("%s", r)
}

func (l *Load) note(t Target, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made.Add(1)
	if t.Direct {
		l.counts.Direct++
		if err != nil || took > Stalled {
			l.counts.DirectStalled++
		}
		if err != nil {
			l.counts.DirectFailed++
		}
		return
	}
	l.counts.Connections++
	switch {
	case err != nil:
		l.counts.Failed++
		l.counts.fault(fmt.Errorf("%s: %w", t, err))
	case took > Stalled:
		l.counts.Stalled++
		fallthrough
	default:
		l.counts.Longest = max(l.counts.Longest, took)
	}
}

func (c *Counts) fault(err error) {
	if len(c.Errs) < mostErrs {
		c.Errs = append(c.Errs, err)
	}
}

// GoOn waits until so many more connections have come to their end.
func (l *Load) GoOn(ctx context.Context, more int) error {
	for goal := l.made.Load() + int64(more); l.made.Load() < goal; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for traffic: %w", context.Cause(ctx))
		case <-time.After(pace):
		}
	}
	return nil
}

// End ends the traffic, waits for what is on its way, and says what became of it. It may be called again.
func (l *Load) End() Counts {
	l.stop()
	l.running.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	for _, o := range l.open {
		_ = o.Close() // a fault would have shown before
		c.Open++
		if o.Lost != nil {
			c.Lost++
			c.fault(fmt.Errorf("%s, open: %w", o.target, o.Lost))
		}
	}
	return c
}
