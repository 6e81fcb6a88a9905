// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
)

// Cluster is the network of the package comment.
type Cluster struct {
	Node       Host   // where nftproxy runs; it forwards
	Client     Host   // a pod on the node
	Local      []Host // pods on the node, to be endpoints: local1, local2, ...
	Remote     Host   // another node
	RemotePods []Host // its pods, all in the namespace of Remote
	Outside    Host   // not in the cluster; routes the service ranges to Node
}

// Config says how large a cluster is. The zero value is useful.
type Config struct {
	LocalPods  int // pods on the node besides the client, at most 8; default 2
	RemotePods int // pods on the other node, at most 250; default 19
}

// NewCluster makes the namespaces and links of a cluster; its addresses can be
// used at once. On an error nothing is left.
func NewCluster(cfg Config) (*Cluster, error) {
	if cfg.LocalPods == 0 {
		cfg.LocalPods = 2
	}
	if cfg.RemotePods == 0 {
		cfg.RemotePods = 19
	}
	if cfg.LocalPods < 0 || cfg.LocalPods > 8 || cfg.RemotePods < 0 || cfg.RemotePods > 250 {
		return nil, fmt.Errorf("make cluster: %+v: want at most 8 local and 250 remote pods", cfg)
	}
	c := &Cluster{}
	b := newBuilder()
	c.make(b, cfg)
	if b.err == nil {
		c.connect(b)
	}
	if err := b.finish(); err != nil {
		return nil, errors.Join(fmt.Errorf("make cluster: %w", err), c.Close())
	}
	return c, nil
}

// make makes the namespaces.
func (c *Cluster) make(b *builder, cfg Config) {
	c.Outside = host(b.namespace("outside", false), NodeNet4, NodeNet6, 1)
	c.Node = host(b.namespace("node", true), NodeNet4, NodeNet6, 2)
	c.Remote = host(b.namespace("remote", false), NodeNet4, NodeNet6, 3)
	c.Client = host(b.namespace("client", false), PodCIDR4, PodCIDR6, 10)
	for i := range cfg.LocalPods {
		name := fmt.Sprintf("local%d", i+1)
		c.Local = append(c.Local, host(b.namespace(name, false), PodCIDR4, PodCIDR6, 2+i))
	}
	for i := range cfg.RemotePods {
		c.RemotePods = append(c.RemotePods, host(c.Remote.NS, RemoteCIDR4, RemoteCIDR6, 2+i))
	}
}

// connect makes links, addresses and routes.
func (c *Cluster) connect(b *builder) {
	const uplink, bridge = "eth0", "br0"
	b.bridge(c.Outside.NS, bridge)
	for _, h := range []Host{c.Node, c.Remote} {
		b.veth(c.Outside.NS, "to-"+h.Name(), bridge, h.NS, uplink)
	}
	b.address(c.Outside, bridge, 24, 64)
	b.address(c.Node, uplink, 24, 64)
	b.address(c.Remote, uplink, 24, 64)
	for _, pod := range c.RemotePods {
		b.address(pod, uplink, 32, 128)
	}
	b.route(c.Outside.NS, bridge, ServiceCIDR4, ServiceCIDR6, c.Node)
	b.route(c.Node.NS, uplink, "0.0.0.0/0", "::/0", c.Outside)
	b.route(c.Node.NS, uplink, RemoteCIDR4, RemoteCIDR6, c.Remote)
	b.route(c.Remote.NS, uplink, "0.0.0.0/0", "::/0", c.Outside)
	b.route(c.Remote.NS, uplink, PodCIDR4, PodCIDR6, c.Node)
	for _, pod := range append([]Host{c.Client}, c.Local...) {
		b.pod(c.Node.NS, pod)
	}
}

// Namespaces returns every namespace once.
func (c *Cluster) Namespaces() []*NS {
	list := []*NS{c.Node.NS, c.Client.NS}
	for _, h := range c.Local {
		list = append(list, h.NS)
	}
	return append(list, c.Remote.NS, c.Outside.NS)
}

// Keep makes the cluster outlive the process, each namespace under the name
// PREFIX-NAME, where it can: not inside a user namespace, where it lives as long
// as this process. NS.EnterCommand tells how to enter in either case. Close still
// removes everything.
func (c *Cluster) Keep(prefix string) error {
	if InUserNamespace() {
		return nil
	}
	for _, n := range c.Namespaces() {
		if err := n.Bind(prefix + "-" + n.Name()); err != nil {
			return err
		}
	}
	return nil
}

// Close lets go of all namespaces: see NS.Close.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Namespaces() {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}
