// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"maps"
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

// tcpPause is how long TCP connections that nobody answered wait for others of their kind: their
// clients try again a second after the first time. Other protocols' flows would lose what is sent meanwhile.
const tcpPause = time.Second

// flowQueue holds the frontends whose flows are to be looked through.
type flowQueue struct {
	mu        sync.Mutex
	frontends map[frontend]struct{}
	urgent    bool // not only TCP's
	wake      chan struct{}
}

// startFlowCleaner starts the goroutine that cleans, so that programming never
// waits for conntrack.
func (p *Proxier) startFlowCleaner(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	if p.config.Conntrack == nil {
		return &wg
	}
	wg.Go(func() {
		var backoff backoff
		var last time.Time
		for {
			if !p.flows.wait(ctx, last.Add(tcpPause)) {
				return
			}
			last = time.Now()
			rest, err := p.cleanFlows(ctx)
			if err != nil && ctx.Err() == nil {
				rest = backoff.next()
				p.log.Error(err, "Could not delete flows to endpoints that are gone; trying again", "in", rest)
			} else {
				backoff.reset()
			}
			if !sleep(ctx, rest) {
				return
			}
		}
	})
	return &wg
}

// cleanFlows cleans what is queued, and returns how long to rest: the kernel walks its
// whole table with softirqs off, which is to take no more than a tenth of the time.
func (p *Proxier) cleanFlows(ctx context.Context) (rest time.Duration, err error) {
	start := time.Now()
	frontends := p.flows.take()
	targets := p.targets(frontends)
	if len(targets) == 0 {
		return 0, nil
	}
	n, err := p.config.Conntrack.Clean(ctx, targets)
	took := time.Since(start)
	p.config.Metrics.flows.Add(float64(n))
	p.config.Metrics.kubeProxy.flows(took, n, !slices.ContainsFunc(targets, func(t conntrack.Target) bool { return !t.Addr.Is6() }))
	if err != nil {
		p.flows.put(frontends)
	}
	return min(9*took, longestRest), err
}

func newFlowQueue() *flowQueue {
	return &flowQueue{frontends: map[frontend]struct{}{}, wake: make(chan struct{}, 1)}
}

// wait waits until there is something to be cleaned: if that is TCP's only, until a certain time. It returns
// false if ctx ended.
func (q *flowQueue) wait(ctx context.Context, tcp time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-q.wake:
	}
	pause := time.NewTimer(time.Until(tcp))
	defer pause.Stop()
	for {
		q.mu.Lock()
		urgent := q.urgent
		q.mu.Unlock()
		if urgent {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-pause.C:
			return true
		case <-q.wake:
		}
	}
}

func (q *flowQueue) put(frontends []frontend) {
	if len(frontends) == 0 {
		return
	}
	q.mu.Lock()
	for _, f := range frontends {
		q.frontends[f] = struct{}{}
		q.urgent = q.urgent || f.protocol != rules.TCP
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *flowQueue) take() []frontend {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := slices.Collect(maps.Keys(q.frontends))
	clear(q.frontends)
	q.urgent = false
	return out
}

// targets says where flows of frontends may go now: to every endpoint that serves,
// whatever policies, topology and draining say of new ones, as in kube-proxy. That of a
// NodePort is left out where the addresses that serve it are not known, lest other
// services' flows are deleted.
func (p *Proxier) targets(frontends []frontend) []conntrack.Target {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []conntrack.Target
	for _, f := range frontends {
		t := conntrack.Target{Frontend: conntrack.Frontend{Addr: f.addr, Proto: uint8(f.protocol), Port: f.port}}
		if f.addr.IsUnspecified() {
			for _, a := range p.programmedNode.NodePortIPs {
				if rules.FamilyOf(a) == rules.FamilyOf(f.addr) {
					t.Local = append(t.Local, a)
				}
			}
			if len(t.Local) == 0 {
				continue
			}
		}
		if o := p.store.frontends.holderOf(f); o.Name != "" {
			for _, e := range p.store.endpoints(o, f.protocol) {
				if e.Serving || e.Ready {
					t.Endpoints = append(t.Endpoints, e.Addr)
				}
			}
		}
		out = append(out, t)
	}
	return out
}

// queueFlows queues the frontends whose flows may be stale after a commit.
func (p *Proxier) queueFlows(before, after []rules.Owned) {
	if p.config.Conntrack == nil {
		return
	}
	var out []frontend
	for i := range before {
		out = append(out, staleFrontends(before[i].Owner.Family, before[i].Objects, after[i].Objects)...)
	}
	p.flows.put(out)
}

// staleFrontends returns the frontends that are gone; of TCP those that lost an
// endpoint, are new or got their first one; and all others, whose flows outlive
// endpoints that no longer get new ones.
func staleFrontends(f rules.Family, before, after rules.Objects) []frontend {
	had, has := before.Backends(), after.Backends()
	lost := slices.ContainsFunc(had, func(a netip.AddrPort) bool { return !slices.Contains(has, a) })
	first := len(had) == 0 && len(has) > 0
	was, now := before.Frontends(), after.Frontends()
	var out []frontend
	for _, k := range now {
		if k.Protocol != rules.TCP || lost || first || len(has) > 0 && !slices.Contains(was, k) {
			out = append(out, frontendOf(f, k))
		}
	}
	for _, k := range was {
		if !slices.Contains(now, k) {
			out = append(out, frontendOf(f, k))
		}
	}
	return out
}

func frontendOf(f rules.Family, k rules.Key) frontend {
	if !k.Addr.IsValid() {
		return frontend{unspecified(f), k.Protocol, k.Port}
	}
	return frontend{k.Addr, k.Protocol, k.Port}
}

// cleanAllFlows queues all frontends: those that there are, and those that the kernel
// had before all was made as it should be. Endpoints may have gone while nobody looked,
// and on a node that has just booted clients may have dialled before there were rules.
func (p *Proxier) cleanAllFlows(had rules.State) {
	if p.config.Conntrack == nil {
		return
	}
	var out []frontend
	for _, f := range rules.Families {
		if had.Tables[f] == nil {
			continue
		}
		for _, kind := range []rules.SetKind{rules.Single, rules.ServiceIPs, rules.SingleNodePorts, rules.NodePorts} {
			for k := range had.Tables[f].Sets[rules.SetID{Kind: kind}] {
				out = append(out, frontendOf(f, k))
			}
		}
	}
	p.mu.Lock()
	for n, svc := range p.store.services {
		eachOwner(n, svc, func(_ rules.Owner, sp rules.ServicePort) { out = append(out, frontendsOf(&sp)...) })
	}
	p.mu.Unlock()
	p.flows.put(out)
}
