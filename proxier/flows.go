// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

// Conntrack deletes flows that go to what is no longer an endpoint.
type Conntrack interface {
	// Clean deletes the stale flows to the targets' frontends and returns how many.
	Clean(ctx context.Context, targets []conntrack.Target) (conntrack.Deleted, error)
}

// tcpPause is the least time between two looks at TCP's flows: clients whose SYN led nowhere
// send it again after a second.
const tcpPause = time.Second

// What looking through flows may take: one part in so many of the time, however long one look
// takes, which depends on how full the table is. UDP's and SCTP's lose what is sent meanwhile. TCP's are unanswered connections that
// began before their frontend was there.
const (
	datagramShare = 10
	tcpShare      = 100
)

// flowQueues are for the protocols that wait differently.
type flowQueues struct{ tcp, datagram *flowQueue }

// flowQueue holds the frontends whose flows are to be looked through.
type flowQueue struct {
	share     int           // takes one part in so many of the time
	pause     time.Duration // the least rest
	mu        sync.Mutex
	frontends map[frontend]struct{}
	wake      chan struct{}
}

func newFlowQueues() flowQueues {
	return flowQueues{tcp: newFlowQueue(tcpShare, tcpPause), datagram: newFlowQueue(datagramShare, 0)}
}

func newFlowQueue(share int, pause time.Duration) *flowQueue {
	return &flowQueue{share: share, pause: pause, frontends: map[frontend]struct{}{}, wake: make(chan struct{}, 1)}
}

// startFlowCleaners starts the goroutines that clean, so that programming never
// waits for conntrack.
func (p *Proxier) startFlowCleaners(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	if p.config.Conntrack == nil {
		return &wg
	}
	for _, q := range []*flowQueue{p.flows.tcp, p.flows.datagram} {
		wg.Go(func() { p.keepFlowsClean(ctx, q) })
	}
	return &wg
}

// keepFlowsClean cleans what is queued until ctx ends.
func (p *Proxier) keepFlowsClean(ctx context.Context, q *flowQueue) {
	var again backoff
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		rest, err := p.cleanFlows(ctx, q)
		if err != nil && ctx.Err() == nil {
			rest = max(rest, again.next())
			p.log.Error(err, "Could not delete flows to endpoints that are gone; trying again", "in", rest)
		} else {
			again.reset()
		}
		if !sleep(ctx, rest) {
			return
		}
	}
}

// cleanFlows cleans what is queued, and returns how long to rest.
func (p *Proxier) cleanFlows(ctx context.Context, q *flowQueue) (rest time.Duration, err error) {
	start := time.Now()
	frontends := q.take()
	targets := p.targets(frontends)
	if len(targets) == 0 {
		return 0, nil
	}
	n, err := p.config.Conntrack.Clean(ctx, targets)
	took := time.Since(start)
	p.config.Metrics.flows.Add(float64(n.V4 + n.V6))
	p.config.Metrics.kubeProxy.flows(took, n, targets)
	if err != nil {
		q.put(frontends)
	}
	return max(time.Duration(q.share-1)*took, q.pause), err
}

// put queues frontends, each where its protocol belongs.
func (q flowQueues) put(frontends []frontend) {
	var tcp, datagram []frontend
	for _, f := range frontends {
		if f.protocol == rules.TCP {
			tcp = append(tcp, f)
		} else {
			datagram = append(datagram, f)
		}
	}
	q.tcp.put(tcp)
	q.datagram.put(datagram)
}

func (q *flowQueue) put(frontends []frontend) {
	if len(frontends) == 0 {
		return
	}
	q.mu.Lock()
	for _, f := range frontends {
		q.frontends[f] = struct{}{}
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

// staleFrontends returns the frontends whose flows may be stale: of TCP those that are new,
// as connections may have been dialled before; and all others, old and new, whose flows
// outlive endpoints that no longer get new ones. TCP's to an endpoint that is gone end by
// themselves: established ones must not be touched, and a client waits for no answer for long.
func staleFrontends(f rules.Family, before, after rules.Objects) []frontend {
	was := map[rules.Key]bool{}
	var out []frontend
	for _, k := range before.Frontends() {
		was[k] = true
		if k.Protocol != rules.TCP {
			out = append(out, frontendOf(f, k))
		}
	}
	for _, k := range after.Frontends() {
		if !was[k] {
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

// cleanAllFlows queues the frontends that there are, and those that a repair took away: endpoints may have gone
// while nobody looked. Of TCP it queues those that the repair added: on a node that has just booted clients may
// have dialled before there were rules. all says that none was there.
func (p *Proxier) cleanAllFlows(repair rules.Tx, all bool) {
	if p.config.Conntrack == nil {
		return
	}
	fresh := map[frontend]bool{}
	var out []frontend
	for _, op := range repair.Ops() {
		if k := op.Set.Kind; k != rules.Single && k != rules.ServiceIPs && k != rules.SingleNodePorts && k != rules.NodePorts {
			continue
		}
		for _, e := range op.Elements {
			switch f := frontendOf(op.Family, e.Key); {
			case op.Kind == rules.AddElements:
				fresh[f] = true
			case op.Kind == rules.DeleteElements && f.protocol != rules.TCP:
				out = append(out, f)
			}
		}
	}
	p.mu.Lock()
	for n, svc := range p.store.services {
		eachOwner(n, svc, func(_ rules.Owner, sp rules.ServicePort) {
			for _, f := range frontendsOf(&sp) {
				if all || fresh[f] || f.protocol != rules.TCP {
					out = append(out, f)
				}
			}
		})
	}
	p.mu.Unlock()
	p.flows.put(out)
}
