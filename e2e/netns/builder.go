// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// builder makes links, addresses and routes. It remembers its first error and
// does nothing after it, so that callers write straight lines and ask once.
type builder struct {
	handles map[*NS]*netlink.Handle
	links   []nsLink // to be ready in the end
	addrs   []nsAddr // likewise
	index   map[nsName]int
	err     error
}

type nsName struct {
	ns   *NS
	name string
}

type nsLink struct {
	nsName
	index int
}

// nsAddr is an IPv6 address in a namespace.
type nsAddr struct {
	ns   *NS
	addr netip.Addr
}

func newBuilder() *builder {
	return &builder{handles: map[*NS]*netlink.Handle{}, index: map[nsName]int{}}
}

// finish waits until all links and addresses work and closes the handles.
func (b *builder) finish() error {
	b.waitReady()
	for _, h := range b.handles {
		h.Close()
	}
	return b.err
}

func (b *builder) failed(err error, what string, args ...any) bool {
	if b.err == nil && err != nil {
		b.err = fmt.Errorf("%s: %w", fmt.Sprintf(what, args...), err)
	}
	return b.err != nil
}

// namespace makes a namespace with the settings of the cluster.
func (b *builder) namespace(name string, forward bool) *NS {
	if b.err != nil {
		return nil
	}
	n, err := New(name)
	if b.failed(err, "add %s", name) {
		return nil
	}
	if handle, err := n.Netlink(); !b.failed(err, "add %s", name) {
		b.handles[n] = handle
	}
	b.failed(n.loadTracking(), "add %s", name)
	b.failed(n.setSysctls(hostSysctls(forward)), "add %s", name)
	return n
}

func (b *builder) bridge(n *NS, name string) {
	if b.err != nil {
		return
	}
	noSnooping := false // it would drop neighbour discovery that nobody asked for
	br := &netlink.Bridge{LinkAttrs: attrs(name), MulticastSnooping: &noSnooping}
	b.failed(b.handles[n].LinkAdd(br), "add bridge %s in %s", name, n.name)
	b.up(n, name)
}

// veth makes a pair of links, the near one a port of a bridge unless that is empty.
func (b *builder) veth(near *NS, name, bridge string, far *NS, farName string) {
	if b.err != nil {
		return
	}
	pair := netlink.NewVeth(attrs(name))
	pair.PeerName, pair.PeerNamespace = farName, netlink.NsFd(far.Fd())
	if bridge != "" {
		pair.MasterIndex = b.index[nsName{near, bridge}]
	}
	b.failed(b.handles[near].LinkAdd(pair), "add veth %s in %s to %s in %s", name, near.name, farName, far.name)
	b.up(near, name)
	b.up(far, farName)
}

// up sets a new link up and remembers it.
func (b *builder) up(n *NS, name string) {
	if b.err != nil {
		return
	}
	link, err := b.handles[n].LinkByName(name)
	if b.failed(err, "find link %s in %s", name, n.name) {
		return
	}
	b.failed(b.handles[n].LinkSetUp(link), "set link %s in %s up", name, n.name)
	key := nsName{n, name}
	b.index[key] = link.Attrs().Index
	b.links = append(b.links, nsLink{key, link.Attrs().Index})
}

// address gives the host's addresses to a link.
func (b *builder) address(h Host, link string, bits4, bits6 int) {
	b.addressOne(h.NS, link, netip.PrefixFrom(h.V4, bits4))
	b.addressOne(h.NS, link, netip.PrefixFrom(h.V6, bits6))
}

func (b *builder) addressOne(n *NS, link string, p netip.Prefix) {
	if b.err != nil {
		return
	}
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
		b.addrs = append(b.addrs, nsAddr{n, p.Addr()})
	}
	err := b.handles[n].AddrAdd(b.link(n, link), addr)
	b.failed(err, "add address %s to %s in %s", p, link, n.name)
}

// route adds a route of each family through a neighbour.
func (b *builder) route(n *NS, link, to4, to6 string, via Host) {
	b.routeOne(n, link, netip.MustParsePrefix(to4), via.V4)
	b.routeOne(n, link, netip.MustParsePrefix(to6), via.V6)
}

// routeOne adds a route, to neighbours on the link if there is no gateway.
func (b *builder) routeOne(n *NS, link string, to netip.Prefix, via netip.Addr) {
	if b.err != nil {
		return
	}
	r := &netlink.Route{LinkIndex: b.index[nsName{n, link}], Dst: ipNet(to)}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	b.failed(b.handles[n].RouteAdd(r), "add route to %s in %s", to, n.name)
}

// pod connects a pod to its node by a link of its own. The node has the first
// address of the pod range on each of these links.
func (b *builder) pod(node *NS, pod Host) {
	const link = "eth0"
	if b.err != nil {
		return
	}
	port := "pod-" + pod.name
	gateway := host(node, PodCIDR4, PodCIDR6, 1)
	b.veth(node, port, "", pod.NS, link)
	b.address(gateway, port, 32, 128)
	b.address(pod, link, 32, 128)
	for _, f := range Families() {
		b.routeOne(node, port, netip.PrefixFrom(pod.Addr(f), pod.Addr(f).BitLen()), netip.Addr{})
		b.routeOne(pod.NS, link, netip.PrefixFrom(gateway.Addr(f), gateway.Addr(f).BitLen()), netip.Addr{})
	}
	b.route(pod.NS, link, "0.0.0.0/0", "::/0", gateway)
}

func (b *builder) link(n *NS, name string) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name, Index: b.index[nsName{n, name}]}}
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
