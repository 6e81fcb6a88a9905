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
	// Clean deletes the stale flows to the targets' frontends and returns how many, and the CPU time that
	// it took.
	Clean(ctx context.Context, targets []conntrack.Target) (conntrack.Deleted, error)
}

// pace is how much CPU time looking through flows may take: after a rest, burst; then one part in so many of
// the time, however much one look takes, which depends on how full the table is.
type pace struct {
	share        int
	burst, pause time.Duration // pause: the least rest
}

// flowQueues are for the protocols that wait differently.
type flowQueues struct{ tcp, datagram *flowQueue }

// flowWork says which flows are to be looked through: those to frontends, NodePorts' ones also at addresses
// that have left.
type flowWork struct {
	frontends map[rules.Frontend]struct{}
	left      map[netip.Addr]struct{}
}

func newFlowWork() flowWork {
	return flowWork{map[rules.Frontend]struct{}{}, map[netip.Addr]struct{}{}}
}

// flowQueue holds work that waits.
type flowQueue struct {
	pace
	used  time.Duration // of the burst; belongs to the goroutine that cleans
	ended time.Time     // the last look; likewise

	mu   sync.Mutex
	work flowWork
	wake chan struct{}
}

// newFlowQueues returns queues in which UDP's and SCTP's flows do not wait, as they lose what is sent meanwhile.
// TCP's are connections without an answer, whose clients send their SYN again after a second: a look a tenth of a
// second later serves several commits.
func newFlowQueues() flowQueues {
	const burst = 3 * time.Second
	return flowQueues{
		tcp:      newFlowQueue(pace{share: 20, burst: burst, pause: 100 * time.Millisecond}),
		datagram: newFlowQueue(pace{share: 10, burst: burst}),
	}
}

func newFlowQueue(p pace) *flowQueue {
	return &flowQueue{pace: p, work: newFlowWork(), wake: make(chan struct{}, 1)}
}

// rest says how long to rest after a look that ends now and has taken so much CPU time.
func (q *flowQueue) rest(busy time.Duration) time.Duration {
	times := time.Duration(q.share - 1) // as long as looking
	now := time.Now()
	q.used = max(0, q.used-(now.Sub(q.ended)-busy)/times) + busy
	q.ended = now
	return max(q.pause, times*(q.used-q.burst)) //nolint:durationcheck // times is a number
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
	work := q.take()
	targets := p.targets(work)
	if len(targets) == 0 {
		return 0, nil
	}
	n, err := p.config.Conntrack.Clean(ctx, targets)
	p.config.Metrics.flows.Add(float64(n.V4 + n.V6))
	p.config.Metrics.kubeProxy.flows(time.Since(start), n, targets)
	if err != nil {
		q.put(slices.Collect(maps.Keys(work.frontends)), slices.Collect(maps.Keys(work.left)))
	}
	return q.rest(n.Busy), err
}

// put queues frontends, each where its protocol belongs, and addresses that have left.
func (q flowQueues) put(frontends []rules.Frontend, left ...netip.Addr) {
	var tcp, datagram []rules.Frontend
	for _, f := range frontends {
		if f.Protocol == rules.TCP {
			tcp = append(tcp, f)
		} else {
			datagram = append(datagram, f)
		}
	}
	q.tcp.put(tcp, left)
	q.datagram.put(datagram, left)
}

func (q *flowQueue) put(frontends []rules.Frontend, left []netip.Addr) {
	if len(frontends) == 0 {
		return
	}
	q.mu.Lock()
	for _, f := range frontends {
		q.work.frontends[f] = struct{}{}
	}
	for _, a := range left {
		q.work.left[a] = struct{}{}
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *flowQueue) take() flowWork {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.work
	q.work = newFlowWork()
	return out
}

// targets says where flows of frontends may go now: to every endpoint that serves,
// whatever policies, topology and draining say of new ones, as in kube-proxy. That of a
// NodePort is left out where the addresses that serve it are not known, lest other
// services' flows are deleted. Where all addresses serve it, so do link-local ones, which are in no
// list.
func (p *Proxier) targets(work flowWork) []conntrack.Target {
	p.mu.Lock()
	nodePortIPs := p.programmedNode.NodePortIPs
	p.mu.Unlock()
	c := &targetsOf{
		Proxier: p,
		local:   byFamily(nodePortIPs),
		left:    byFamily(without(slices.SortedFunc(maps.Keys(work.left), netip.Addr.Compare), nodePortIPs)),
		found:   map[rules.Owner]endpointsFound{},
	}
	var out []conntrack.Target
	for f := range work.frontends {
		if t, ok := c.target(f); ok {
			out = append(out, t)
		}
	}
	return out
}

// targetsOf finds the targets of frontends.
type targetsOf struct {
	*Proxier
	local, left [2][]netip.Addr
	found       map[rules.Owner]endpointsFound // shared: an owner may have thousands of frontends
}

type endpointsFound struct{ serving, unready []netip.AddrPort }

// target returns the target of a frontend; false for none. Others go on between one and the next: there may be
// very many.
func (c *targetsOf) target(f rules.Frontend) (conntrack.Target, bool) {
	t := conntrack.Target{Frontend: f}
	if f.IsNodePort() {
		family := rules.FamilyOf(f.Addr)
		t.Local, t.Left, t.LinkLocal = c.local[family], c.left[family], c.config.Rules.AllNodePortIPs
		if len(t.Local)+len(t.Left) == 0 && !t.LinkLocal {
			return t, false
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.servedBy(f); o.Name != "" {
		e, ok := c.found[o]
		if !ok {
			e.serving, e.unready = c.store.serving(o, f.Protocol)
			c.found[o] = e
		}
		t.Endpoints, t.Unready = e.serving, e.unready
	}
	return t, true
}

func byFamily(addrs []netip.Addr) (out [2][]netip.Addr) {
	for _, a := range addrs {
		f := rules.FamilyOf(a)
		out[f] = append(out[f], a)
	}
	return out
}

// servedBy returns whose endpoints connections to a frontend go to: those of a node's address that
// is nobody's own frontend are the NodePort's. p.mu is held.
func (p *Proxier) servedBy(f rules.Frontend) rules.Owner {
	o := p.store.frontends.holderOf(f)
	if o.Name == "" && slices.Contains(p.programmedNode.NodePortIPs, f.Addr) {
		o = p.store.frontends.holderOf(f.NodePort())
	}
	return o
}

// queueFlows queues the frontends whose flows may be stale after a commit.
func (p *Proxier) queueFlows(before, after []rules.Owned) {
	if p.config.Conntrack == nil {
		return
	}
	var out []rules.Frontend
	for i := range before {
		out = append(out, staleFrontends(before[i].Owner.Family, before[i].Objects, after[i].Objects)...)
	}
	p.flows.put(out)
}

// staleFrontends returns the frontends whose flows may be stale: those that are new, as
// connections may have been dialled before; and the old ones, whose flows outlive endpoints that
// no longer get new ones. Those of TCP are left out where endpoints only came: a node has many
// connections, and none of them is waiting for one that has gone.
func staleFrontends(f rules.Family, before, after rules.Objects) []rules.Frontend {
	was := map[rules.Frontend]bool{}
	var out []rules.Frontend
	old := before.Frontends(f) // all of one protocol
	grew := len(old) > 0 && old[0].Protocol == rules.TCP && onlyGrew(before.Backends(), after.Backends())
	for _, fr := range old {
		was[fr] = true
		if !grew {
			out = append(out, fr)
		}
	}
	for _, fr := range after.Frontends(f) {
		if !was[fr] {
			out = append(out, fr)
		}
	}
	return out
}

// onlyGrew says whether there are more endpoints and none has left. Both lists are sorted. Where they
// are equal, one may have gone that got no new connections before.
func onlyGrew(before, after []netip.AddrPort) bool {
	left := slices.ContainsFunc(before, func(e netip.AddrPort) bool {
		_, found := slices.BinarySearchFunc(after, e, netip.AddrPort.Compare)
		return !found
	})
	return !left && len(after) > len(before)
}

// cleanAllFlows queues the frontends that there are, and those and the addresses for NodePorts that a repair took
// away: endpoints and addresses may have gone while nobody looked, and on a node that has just booted clients may
// have dialled before there were rules.
func (p *Proxier) cleanAllFlows(repair rules.Tx) {
	if p.config.Conntrack == nil {
		return
	}
	out, left := removed(repair)
	p.mu.Lock()
	for n, svc := range p.store.services {
		eachOwner(n, svc, func(_ rules.Owner, sp rules.ServicePort) {
			for _, c := range claimsOf(&sp) {
				out = append(out, c.Frontend)
			}
		})
	}
	p.mu.Unlock()
	p.flows.put(out, left...)
}

// removed returns the frontends and the addresses for NodePorts that a transaction takes away.
func removed(tx rules.Tx) (frontends []rules.Frontend, addrs []netip.Addr) {
	tx.EachRemoved(func(f rules.Family, set rules.SetID, list []rules.Element) {
		for _, e := range list {
			switch {
			case set.Kind.Serves():
				frontends = append(frontends, e.Key.Frontend(f))
			case set.Kind == rules.NodePortIPs:
				addrs = append(addrs, e.Key.Addr)
			}
		}
	})
	return frontends, addrs
}

// queueNodePortFlows queues the NodePorts after other addresses serve them than before: what was sent
// to one that has come was not translated, and what was translated goes on being so at one that has left.
func (p *Proxier) queueNodePortFlows(before, after []netip.Addr) {
	left, come := without(before, after), without(after, before)
	if p.config.Conntrack == nil {
		return
	}
	var changed [2]bool
	for _, a := range slices.Concat(left, come) {
		changed[rules.FamilyOf(a)] = true
	}
	p.mu.Lock()
	var out []rules.Frontend
	for f := range p.store.frontends.holder {
		if f.IsNodePort() && changed[rules.FamilyOf(f.Addr)] {
			out = append(out, f)
		}
	}
	p.mu.Unlock()
	p.flows.put(out, left...)
}

// without returns the addresses that are not among others, which are sorted.
func without(addrs, others []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		_, found := slices.BinarySearchFunc(others, a, netip.Addr.Compare)
		return found
	})
}
