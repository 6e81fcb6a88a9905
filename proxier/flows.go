// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

// Conntrack deletes flows that go to what is no longer an endpoint.
type Conntrack interface {
	// Clean deletes the stale flows to the targets' frontends and returns how many.
	Clean(ctx context.Context, targets []conntrack.Target) (int, error)
}

// longestRest bounds how long stale flows wait while others are cleaned.
const longestRest = 2 * time.Second

// flowQueue holds what is to be cleaned. A later target of a frontend replaces an
// earlier one: only the newest endpoints count.
type flowQueue struct {
	mu      sync.Mutex
	targets map[conntrack.Frontend]conntrack.Target
	wake    chan struct{}
}

// startFlowCleaner starts the goroutine that cleans, so that programming never
// waits for conntrack.
func (p *Proxier) startFlowCleaner(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	if p.config.Conntrack == nil {
		return &wg
	}
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-p.flows.wake:
			}
			start := time.Now()
			targets := p.flows.take()
			n, err := p.config.Conntrack.Clean(ctx, targets)
			took := time.Since(start)
			p.config.Metrics.flows.Add(float64(n))
			p.config.Metrics.kubeProxy.flows(took, n, !slices.ContainsFunc(targets, func(t conntrack.Target) bool { return !t.Addr.Is6() }))
			if err != nil && ctx.Err() == nil {
				p.log.Error(err, "Could not delete flows to endpoints that are gone; their clients may wait for a time-out")
			}
			// The kernel walks its whole table with softirqs off: no more than a tenth of the time.
			if !sleep(ctx, min(9*took, longestRest)) {
				return
			}
		}
	})
	return &wg
}

func newFlowQueue() *flowQueue {
	return &flowQueue{targets: map[conntrack.Frontend]conntrack.Target{}, wake: make(chan struct{}, 1)}
}

func (q *flowQueue) put(targets []conntrack.Target) {
	if len(targets) == 0 {
		return
	}
	q.mu.Lock()
	for _, t := range targets {
		q.targets[t.Frontend] = t
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *flowQueue) take() []conntrack.Target {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]conntrack.Target, 0, len(q.targets))
	for _, t := range q.targets {
		out = append(out, t)
	}
	clear(q.targets)
	return out
}

// cleanFlows queues the frontends whose flows may be stale after a commit.
func (p *Proxier) cleanFlows(before, after []rules.Owned) {
	if p.config.Conntrack == nil {
		return
	}
	// A frontend that one owner lost and another got has the endpoints of the latter.
	targets := map[conntrack.Frontend]conntrack.Target{}
	for i := range before {
		for _, t := range p.staleTargets(before[i].Owner.Family, before[i].Objects, after[i].Objects) {
			if old, ok := targets[t.Frontend]; !ok || len(old.Endpoints) == 0 {
				targets[t.Frontend] = t
			}
		}
	}
	list := make([]conntrack.Target, 0, len(targets))
	for _, t := range targets {
		list = append(list, t)
	}
	p.flows.put(list)
}

// staleTargets returns the frontends that lost an endpoint, are gone, or are new or
// got their first endpoint: flows of before that go nowhere.
func (p *Proxier) staleTargets(f rules.Family, before, after rules.Objects) []conntrack.Target {
	had, has := before.Backends(), after.Backends()
	lost := slices.ContainsFunc(had, func(a netip.AddrPort) bool { return !slices.Contains(has, a) })
	first := len(had) == 0 && len(has) > 0
	was, now := before.Frontends(), after.Frontends()
	var out []conntrack.Target
	for _, k := range now {
		if lost || first || len(has) > 0 && !slices.Contains(was, k) {
			out = p.appendTarget(out, f, k, has)
		}
	}
	for _, k := range was {
		if !slices.Contains(now, k) {
			out = p.appendTarget(out, f, k, nil)
		}
	}
	return out
}

// appendTarget adds a frontend. That of a NodePort is left out where the addresses
// that serve it are not known, lest other services' flows are deleted.
func (p *Proxier) appendTarget(list []conntrack.Target, f rules.Family, k rules.Key, endpoints []netip.AddrPort) []conntrack.Target {
	t := conntrack.Target{Endpoints: endpoints,
		Frontend: conntrack.Frontend{Addr: k.Addr, Proto: uint8(k.Protocol), Port: k.Port}}
	if !k.Addr.IsValid() {
		t.Addr = unspecified(f)
		for _, a := range p.programmedNode.NodePortIPs {
			if rules.FamilyOf(a) == f {
				t.Local = append(t.Local, a)
			}
		}
		if len(t.Local) == 0 {
			return list
		}
	}
	return append(list, t)
}
