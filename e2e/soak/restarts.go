// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// restarts is what the restarts of the API server came to.
type restarts struct {
	mu      sync.Mutex
	minutes []float64
	without time.Duration // all the time without one
	slowest time.Duration // from its being back until connections follow a change
	last    span          // the last time without one
}

// since returns how long the API server has been back when something began: negative while it was not, and long if it was
// never away.
func (r *restarts) since(begun time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.last.from.IsZero():
		return 24 * time.Hour
	case r.last.to.IsZero():
		return -1
	}
	return begun.Sub(r.last.to)
}

func (r *restarts) away(from, to time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = span{from, to}
}

// restartAPI restarts the API server at an even pace until going ends.
func (r *run) restartAPI(ctx, going context.Context) error {
	for wait(going, r.plan.Restarts) {
		if time.Since(r.began) > r.plan.Length-r.plan.Restarts/4 {
			return nil // too near to the end to see what comes of it
		}
		begun := time.Now()
		ended := r.diary.did("", "the API server is killed and started again")
		r.restarts.away(begun, time.Time{})
		err := r.cp.RestartAPIServer(ctx, r.plan.Away)
		ended(err)
		if err != nil {
			return err
		}
		back := time.Now()
		r.restarts.away(begun, back)
		if err := r.follows(ctx); err != nil {
			return err
		}
		followed := time.Since(back)
		r.log("API server restarted, away for %.1f s; nftproxy followed %.1f s after it was back", back.Sub(begun).Seconds(), followed.Seconds())
		r.restarts.mu.Lock()
		r.restarts.minutes = append(r.restarts.minutes, begun.Sub(r.began).Minutes())
		r.restarts.without += back.Sub(begun)
		r.restarts.slowest = max(r.restarts.slowest, followed)
		r.restarts.mu.Unlock()
	}
	return nil
}

// follows gives the probe another endpoint, and waits until connections go there.
func (r *run) follows(ctx context.Context) error {
	s := r.services[len(r.services)-1]
	c := s.crowds[netns.IPv4]
	next := c.pods[0]
	if c.now.ready[0].V4 == next.V4 {
		next = c.pods[1]
	}
	begun := time.Now()
	err := c.change(endpoints{ready: []pod{next}}, func(e endpoints) error {
		_, err := r.cp.Client().DiscoveryV1().EndpointSlices(namespace).Update(ctx, s.slice(netns.IPv4, e), metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("change the probe's endpoint: %w", err)
	}
	w := way{service: s, protocol: traffic.TCP, family: netns.IPv4, from: r.Client, to: s.at(netns.IPv4)}
	for {
		attempt := time.Now()
		a := traffic.Client{NS: w.from.NS}.Connect(ctx, w.protocol, w.to)
		if _, err := lateness(a, c, attempt, r.restarts.since(attempt)); err != nil && ctx.Err() == nil {
			r.diary.fail(attempt, s.name, fmt.Sprintf("a new connection, %s", w), fmt.Errorf("%w%s", err, r.flows(w)))
		}
		if a.Outcome == traffic.Answered && a.Backend.Addr() == next.V4 {
			return nil
		}
		if took := time.Since(begun); took > 2*mostLate {
			r.diary.fail(begun, s.name, "a change after the restart of the API server", fmt.Errorf("connections did not follow in %.0f s: %s", took.Seconds(), a))
			return nil
		}
		if !wait(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}
