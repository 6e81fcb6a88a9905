// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// equalPatience is how long the kernel may take to be as the API server has it, once nothing changes.
const equalPatience = 30 * time.Second

// finish compares the kernel with the API server, and asks every Service once.
func (r *run) finish(ctx context.Context, res *results) error {
	begun := time.Now()
	for {
		text, err := r.diff(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			res.row("nftproxy diff at the end", text, false)
			break
		}
		if time.Since(begun) > equalPatience {
			res.row("nftproxy diff at the end", tail(err.Error(), 20), true)
			break
		}
	}
	return r.sweep(ctx, res)
}

// sweep asks all Services, on each port and in each family, once.
func (r *run) sweep(ctx context.Context, res *results) error {
	var asked, wrong atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, s := range r.services {
		for _, f := range s.families {
			for _, p := range s.protocols {
				g.Go(func() error {
					begun := time.Now()
					w := way{service: s, protocol: p, family: f, from: r.Client, to: s.at(f)}
					err := r.askLast(ctx, w)
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					asked.Add(1)
					if err != nil {
						wrong.Add(1)
						r.diary.fail(begun, s.name, fmt.Sprintf("a connection after the end, %s", w), err)
					}
					return nil
				})
			}
		}
	}
	err := g.Wait()
	res.row("Service ports of all kinds asked once at the end", fmt.Sprintf("%s: %s not as they should be", count(asked.Load()), count(wrong.Load())), wrong.Load() > 0)
	return err
}

// askLast asks a Service that does not change any more: an endpoint of its has to answer, or nobody.
func (r *run) askLast(ctx context.Context, w way) error {
	c := w.crowds[w.family]
	if w.away || c.size() == 0 {
		a := traffic.Client{NS: w.from.NS, Timeout: time.Second}.Connect(ctx, w.protocol, w.to)
		if a.Outcome == traffic.Answered {
			return fmt.Errorf("answered by %s, though it has no endpoints", a.Backend)
		}
		return nil
	}
	a := traffic.Client{NS: w.from.NS}.Connect(ctx, w.protocol, w.to)
	if a.Outcome != traffic.Answered {
		return errors.New(a.String())
	}
	if late, known := c.check(a.Backend.Addr(), time.Now()); !known || late > 0 {
		return fmt.Errorf("answered by %s, which is no endpoint of it", a.Backend)
	}
	return nil
}

// describe says what the Services are, for the report.
func describe(services []*service) string {
	ports, addresses, endpoints := 0, map[netip.Addr]bool{}, 0
	roles := map[role]int{}
	for _, s := range services {
		roles[s.role]++
		for _, f := range s.families {
			addresses[s.at(f).Addr()] = true
			ports += len(s.protocols)
			endpoints += s.crowds[f].size()
		}
	}
	families := netns.Families()
	return fmt.Sprintf("%s with %s service ports over TCP, UDP and SCTP in %s and %s, and %s endpoints: %s stay as they are, %s get and lose endpoints, %s come and go",
		count(int64(len(services))), count(int64(ports)), families[0], families[1], count(int64(endpoints)),
		count(int64(roles[steady])), count(int64(roles[rolled])), count(int64(roles[fickle])))
}
