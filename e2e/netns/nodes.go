// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"net/netip"
)

// Nodes is a network of nodes whose pods somebody else makes, such as a container
// runtime: a bridge in outside, with a forwarding namespace for each node, and routes
// to the pods of the other nodes. outside has no route to pods.
type Nodes struct {
	Outside Host
	Nodes   []Host // node1, node2, ...
}

// NewNodes makes a network of n nodes, at most 8. On an error nothing is left.
func NewNodes(n int) (*Nodes, error) {
	if n < 1 || n > 8 {
		return nil, fmt.Errorf("make network of %d nodes: want 1 to 8", n)
	}
	c := &Nodes{}
	b := newBuilder()
	c.Outside = host(b.namespace("outside", false), NodeNet4, NodeNet6, 1)
	for i := range n {
		c.Nodes = append(c.Nodes, host(b.namespace(fmt.Sprintf("node%d", i+1), true), NodeNet4, NodeNet6, 2+i))
	}
	if b.err == nil {
		c.connect(b)
	}
	if err := b.finish(); err != nil {
		return nil, errors.Join(fmt.Errorf("make network of nodes: %w", err), c.Close())
	}
	return c, nil
}

func (c *Nodes) connect(b *builder) {
	const uplink, bridge = "eth0", "br0"
	b.bridge(c.Outside.NS, bridge)
	b.address(c.Outside, bridge, 24, 64)
	for _, n := range c.Nodes {
		b.veth(c.Outside.NS, portTo(n), bridge, n.NS, uplink)
		b.address(n, uplink, 24, 64)
		b.route(n.NS, uplink, "0.0.0.0/0", "::/0", c.Outside)
	}
	for i, n := range c.Nodes {
		for j, other := range c.Nodes {
			if i != j {
				b.route(n.NS, uplink, NodePods(IPv4, j).String(), NodePods(IPv6, j).String(), other)
			}
		}
	}
}

// portTo returns the bridge's port to a node.
func portTo(node Host) string { return "to-" + node.Name() }

// Unplug cuts a node off for good: what is sent to it gets no answer.
func (c *Nodes) Unplug(node Host) error {
	handle, err := c.Outside.Netlink()
	if err != nil {
		return err
	}
	defer handle.Close()
	port, err := handle.LinkByName(portTo(node))
	if err == nil {
		err = handle.LinkSetDown(port)
	}
	if err != nil {
		return fmt.Errorf("unplug %s: %w", node.Name(), err)
	}
	return nil
}

// NodePods returns the range of the pods of Nodes.Nodes[i].
func NodePods(f Family, i int) netip.Prefix {
	if f == IPv6 {
		return netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", i+1))
	}
	return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i+1))
}

// Close lets go of all namespaces: see NS.Close.
func (c *Nodes) Close() error {
	var errs []error
	for _, h := range append([]Host{c.Outside}, c.Nodes...) {
		if h.NS != nil {
			errs = append(errs, h.Close())
		}
	}
	return errors.Join(errs...)
}
