// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// loadPace is the time between two steps of a part of the load.
const loadPace = 4 * time.Millisecond

// load is traffic that goes on until end.
type load struct {
	newcomers []*newcomers
	regulars  []*traffic.Regular
	going     context.Context // ends with the load; what has begun is not cut off
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// newcomers are new connections to one target, one after the other.
type newcomers struct {
	target
	client traffic.Client
	steps  atomic.Int64
	tally  traffic.Tally // once the load has ended
}

// startLoad makes new connections to all targets, each from one origin, and opens
// a connection of each family from every origin, to stay.
func startLoad(ctx context.Context, origins []origin, targets []target) (*load, error) {
	l := &load{}
	l.going, l.stop = context.WithCancel(ctx)
	for i, t := range targets {
		from := origins[i%len(origins)]
		l.newcomers = append(l.newcomers, &newcomers{target: t, client: t.client(from.NS)})
	}
	for _, f := range netns.Families() {
		if err := l.openRegulars(ctx, f, origins, targets); err != nil {
			l.end()
			return nil, err
		}
	}
	for _, n := range l.newcomers {
		l.running.Go(func() { n.come(ctx, l.going) })
	}
	for _, r := range l.regulars {
		l.running.Go(func() { r.GoOn(ctx, l.going, loadPace) })
	}
	return l, nil
}

// openRegulars opens a connection from every origin to the first TCP target of a
// family, if there is one.
func (l *load) openRegulars(ctx context.Context, f netns.Family, origins []origin, targets []target) error {
	for _, t := range targets {
		if t.protocol != traffic.TCP || t.address.Addr().Is6() != (f == netns.IPv6) {
			continue
		}
		for _, from := range origins {
			r, err := t.client(from.NS).OpenRegular(ctx, t.protocol, t.address)
			if err != nil {
				return err
			}
			l.regulars = append(l.regulars, r)
		}
		return nil
	}
	return nil
}

// come connects until going ends.
func (n *newcomers) come(ctx, going context.Context) {
	pace := time.NewTicker(loadPace)
	defer pace.Stop()
	n.tally, _ = traffic.Spread(going, math.MaxInt, func(context.Context) traffic.Result { // its error is the planned end
		r := n.client.Connect(ctx, n.protocol, n.address)
		n.steps.Add(1)
		await(going, pace)
		return r
	})
}

func await(going context.Context, pace *time.Ticker) {
	select {
	case <-going.Done():
	case <-pace.C:
	}
}

// goOn waits until every part of the load has made some more steps. It gives up
// when ctx ends.
func (l *load) goOn(ctx context.Context) error {
	const more = 15
	var goals []func() bool
	add := func(steps func() int64) {
		goal := steps() + more
		goals = append(goals, func() bool { return steps() >= goal })
	}
	for _, n := range l.newcomers {
		add(n.steps.Load)
	}
	for _, r := range l.regulars {
		add(r.Steps)
	}
	for _, reached := range goals {
		for !reached() {
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for traffic: %w", context.Cause(ctx))
			case <-time.After(loadPace):
			}
		}
	}
	return nil
}

// end ends the load and waits for its end. Its findings can be read afterwards.
func (l *load) end() {
	l.stop()
	l.running.Wait()
	for _, r := range l.regulars {
		_ = r.Close() // a fault would have shown before
	}
}
