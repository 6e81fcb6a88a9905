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
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Conntrack deletes flows that go to what is no longer an endpoint.
type Conntrack interface {
	// Clean deletes the stale flows to the targets' frontends and returns how many, and the CPU time that
	// it took. now returns the targets as they are then: endpoints come while a table is listed.
	Clean(ctx context.Context, targets []conntrack.Target, now func() []conntrack.Target) (conntrack.Deleted, error)
	// CountOpen counts for each of the backends how many connections are open to it, and returns the CPU time that it took.
	CountOpen(ctx context.Context, backends map[rules.Backend]uint32) (time.Duration, error)
}

// flows deletes stale flows after commits, in goroutines of its own: programming never waits for conntrack.
type flows struct {
	*teller
	conntrack Conntrack // nil: none are deleted
	linkLocal bool      // NodePorts are served at link-local addresses, too
	queues    flowQueues
}

// start starts the goroutines that clean, until ctx ends.
func (f *flows) start(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	if f.conntrack == nil {
		return &wg
	}
	for _, q := range []*flowQueue{f.queues.tcp, f.queues.datagram} {
		wg.Go(func() { f.keepClean(ctx, q) })
	}
	return &wg
}

// keepClean cleans what is queued until ctx ends.
func (f *flows) keepClean(ctx context.Context, q *flowQueue) {
	var again backoff
	due := newTimer()
	defer due.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-due.C():
		}
		rest, err := f.clean(ctx, q)
		if err != nil && ctx.Err() == nil {
			rest = max(rest, again.next())
			f.log.Error(err, "Could not delete flows to endpoints that are gone; trying again", "in", rest)
		} else {
			again.reset()
		}
		if !sleep(ctx, rest) {
			return
		}
		if d, ok := q.due(); ok {
			due.set(d)
		}
	}
}

// clean cleans what is queued, and returns how long to rest.
func (f *flows) clean(ctx context.Context, q *flowQueue) (rest time.Duration, err error) {
	start := time.Now()
	look := q.take()
	targets := f.targets(look.flowWork)
	if len(targets) == 0 {
		look.fresh = flowWork{}
		q.looked(look, 0, false)
		return 0, nil
	}
	n, err := f.conntrack.Clean(ctx, targets, func() []conntrack.Target { return f.targets(look.flowWork) })
	f.metrics.flows.Add(float64(n.V4 + n.V6))
	f.metrics.kubeProxy.flows(time.Since(start), n, targets)
	rest = q.rest(n.Busy)
	if err != nil {
		q.put(slices.Collect(maps.Keys(look.frontends)), slices.Collect(maps.Keys(look.left)))
		look = flowLook{repaired: look.repaired}
	}
	q.looked(look, n.Busy, n.V4+n.V6 > 0)
	return rest, err
}

// targets says where flows of frontends may go now: to every endpoint that serves,
// whatever policies, topology and draining say of new ones, as in kube-proxy. That of a
// NodePort is left out where the addresses that serve it are not known, lest other
// services' flows are deleted. Where all addresses serve it, so do link-local ones, which are in no
// list.
func (f *flows) targets(work flowWork) []conntrack.Target {
	nodePortIPs := f.cluster.NodePortIPs()
	c := &targets{
		cluster:   f.cluster,
		linkLocal: f.linkLocal,
		local:     byFamily(nodePortIPs),
		left:      byFamily(without(slices.SortedFunc(maps.Keys(work.left), netip.Addr.Compare), nodePortIPs)),
		found:     map[rules.Owner]endpointsFound{},
	}
	var out []conntrack.Target
	for at := range work.frontends {
		if t, ok := c.of(at); ok {
			out = append(out, t)
		}
	}
	return out
}

// targets finds the targets of frontends.
type targets struct {
	cluster     *cluster.Cluster
	linkLocal   bool
	local, left [2][]netip.Addr
	found       map[rules.Owner]endpointsFound // shared: an owner may have thousands of frontends
}

type endpointsFound struct{ serving, unready []netip.AddrPort }

// of returns the target of a frontend; false for none. The cluster's lock is free between two frontends, of which there may be very
// many.
func (c *targets) of(f rules.Frontend) (conntrack.Target, bool) {
	t := conntrack.Target{Frontend: f}
	if f.IsNodePort() {
		family := rules.FamilyOf(f.Addr)
		t.Local, t.Left, t.LinkLocal = c.local[family], c.left[family], c.linkLocal
		if len(t.Local)+len(t.Left) == 0 && !t.LinkLocal {
			return t, false
		}
	}
	if o := c.cluster.ServedBy(f); o.Name != "" {
		e, ok := c.found[o]
		if !ok {
			e.serving, e.unready = c.cluster.Serving(o, f.Protocol)
			c.found[o] = e
		}
		t.Endpoints, t.Unready = e.serving, e.unready
	}
	return t, true
}

// queue queues the frontends whose flows may be stale after a commit.
func (f *flows) queue(before, after []rules.Owned, tuned map[rules.Owner]bool) {
	if f.conntrack == nil {
		return
	}
	var out []rules.Frontend
	for i := range before {
		if tuned[before[i].Owner] { // no flow has become stale
			continue
		}
		out = append(out, staleFrontends(before[i].Owner.Family, before[i].Objects, after[i].Objects)...)
	}
	f.queues.put(out)
}

// queueAll queues the frontends that there are, and those and the addresses for NodePorts that a repair took
// away: endpoints and addresses may have gone while nobody looked, and on a node that has just booted clients may
// have dialled before there were rules.
func (f *flows) queueAll(repair rules.Tx) {
	if f.conntrack == nil {
		return
	}
	out, left := removed(repair)
	f.queues.put(append(out, f.cluster.Frontends()...), left...)
}

// queueRepair queues the frontends whose flows may be stale after a repair, in which others may have had a hand. It may be one of many.
func (f *flows) queueRepair(repair rules.Tx) {
	if f.conntrack == nil {
		return
	}
	out, all := repairedFrontends(repair)
	var left []netip.Addr
	if all {
		out, left = removed(repair)
		out = append(out, f.cluster.Frontends()...)
	}
	f.queues.putRepaired(out, left...)
}

// queueNodePorts queues the NodePorts after other addresses serve them than before: what was sent
// to one that has come was not translated, and what was translated goes on being so at one that has left.
func (f *flows) queueNodePorts(before, after []netip.Addr) {
	left, come := without(before, after), without(after, before)
	if f.conntrack == nil {
		return
	}
	var changed [2]bool
	for _, a := range slices.Concat(left, come) {
		changed[rules.FamilyOf(a)] = true
	}
	f.queues.put(f.cluster.NodePorts(changed), left...)
}
