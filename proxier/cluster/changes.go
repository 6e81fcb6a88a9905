// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// Changes is what has changed since the last call of Take.
type Changes struct {
	// Owners are those whose Input may have changed, sorted.
	Owners []Changed
	// Node is what holds for all services now.
	Node rules.Node
	// Excess is how much of all Services is left out.
	Excess Excess
	// Triggers are when what has changed was triggered, by family.
	Triggers [2]Triggers
	// Causes are what changed.
	Causes Causes
	// Faults is what was found at objects. PutBack leaves it out.
	Faults []Fault

	pending pending
}

// Each gives the owners, each with whether it wants nothing any more.
func (ch *Changes) Each() iter.Seq2[rules.Owner, bool] {
	return func(yield func(rules.Owner, bool) bool) {
		for _, c := range ch.Owners {
			if !yield(c.Owner, c.Gone) {
				return
			}
		}
	}
}

// View is a Cluster that stands still: until it is closed nothing comes in. Inputs of one View fit together: each
// frontend has one owner.
type View struct {
	c      *Cluster
	closed bool
}

// Input returns that of an owner.
func (v *View) Input(o rules.Owner) Input { return v.c.store.input(o) }

// Close lets changes come in again. Further calls do nothing.
func (v *View) Close() {
	if !v.closed {
		v.closed = true
		v.c.mu.Unlock()
	}
}

// Take returns what has changed since the last call, and a View to build it from, which the caller closes. Call it
// only when no list is missing. Other methods of the Cluster wait for the View.
func (c *Cluster) Take() (Changes, *View) {
	own, primary := c.addresses()
	c.mu.Lock()
	return c.take(own, primary), &View{c: c}
}

// take returns what has changed since the last call.
func (c *Cluster) take(own []netip.Addr, primary [2]netip.Addr) Changes {
	out := Changes{Node: c.currentNode(own, primary)}
	if before := &c.node.taken; !out.Node.Equal(before) {
		c.pending.causes.add("Node", ObjectName{"", out.Node.Name}, causeChanged)
		if !out.Node.BuildsEqual(before) {
			c.store.markAll()
		}
		c.node.taken = out.Node
		c.store.setNodeAddrs(out.Node.NodePortIPs)
	}
	out.pending, out.Triggers, out.Causes = c.pending, c.pending.triggers, c.pending.causes
	c.pending = newPending()
	out.Owners = c.store.take()
	out.Excess = c.store.over
	out.Faults = c.faults.take()
	return out
}

// PutBack is for changes that could not be programmed: the next Take returns their owners again, besides what is new.
// The Node needs none of this: each Take returns it whole, and who programs it compares it with the one programmed.
func (c *Cluster) PutBack(was Changes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range was.Owners {
		c.store.mark(was.Owners[i].Owner)
	}
	c.pending.putBack(was.pending)
}

// Faults returns what was found at objects since the last call.
func (c *Cluster) Faults() []Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults.take()
}

// Backlog returns how many objects have changed.
func (c *Cluster) Backlog() Backlog {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.backlog
	out.Services, out.Slices = len(c.pending.services), c.pending.slices
	return out
}

// addresses returns the node's own addresses and the primary ones among them.
func (c *Cluster) addresses() (own []netip.Addr, primary [2]netip.Addr) {
	if c.config.Addresses == nil {
		return nil, primary
	}
	return c.config.Addresses.Addrs(), c.config.Addresses.Primary()
}

// currentNode gathers what holds for all services now.
func (c *Cluster) currentNode(own []netip.Addr, primary [2]netip.Addr) rules.Node {
	info := &c.node.info
	n := rules.Node{Name: c.config.NodeName, Zone: info.Zone}
	for _, f := range rules.Families {
		n.IPs[f] = primaryIP(f, c.config.NodeIPs, info.IPs[:], primary[:])
	}
	if c.config.DetectNodeCIDR {
		n.PodCIDRs = slices.Clone(info.PodCIDRs)
	}
	n.NodePortIPs = nodePortIPs(c.config.NodePorts, n.IPs, own)
	for _, cidrs := range c.node.serviceCIDRs {
		n.ServiceCIDRs = append(n.ServiceCIDRs, cidrs...)
	}
	slices.SortFunc(n.ServiceCIDRs, comparePrefixes)
	return n
}
