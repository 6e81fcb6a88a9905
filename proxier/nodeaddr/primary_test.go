// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nodeaddr

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// lab is a network namespace with some interfaces, and changes of it.
type lab struct {
	*netlink.Handle
	t *testing.T
}

func (l lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l lab) link(name string) netlink.Link {
	l.t.Helper()
	link, err := l.LinkByName(name)
	l.must(err)
	return link
}

func (l lab) add(names ...string) {
	l.t.Helper()
	for _, name := range names {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		veth := netlink.NewVeth(attrs)
		veth.PeerName = name + "-peer"
		l.must(l.LinkAdd(veth))
		l.must(l.LinkSetUp(l.link(name)))
		l.must(l.LinkSetUp(l.link(name + "-peer")))
	}
}

func (l lab) address(link, cidr string, change func(*netlink.Addr)) {
	l.t.Helper()
	a, err := netlink.ParseAddr(cidr)
	l.must(err)
	a.Flags = unix.IFA_F_NODAD
	if change != nil {
		change(a)
	}
	l.must(l.AddrAdd(l.link(link), a))
}

func (l lab) noAddress(link, cidr string) {
	l.t.Helper()
	a, err := netlink.ParseAddr(cidr)
	l.must(err)
	l.must(l.AddrDel(l.link(link), a))
}

// route returns a default route.
func (l lab) route(link, gateway string, metric int) *netlink.Route {
	l.t.Helper()
	r := &netlink.Route{LinkIndex: l.link(link).Attrs().Index, Gw: net.ParseIP(gateway), Priority: metric}
	if gateway == "" {
		r.Dst, r.Scope = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, netlink.SCOPE_LINK
	}
	return r
}

// TestPrimary: the node is known by the address of its default route, whatever other addresses it has.
func TestPrimary(t *testing.T) {
	ns, err := netns.New("node")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	handle, err := ns.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	l := lab{handle, t}
	var w *Watcher
	l.must(ns.Do(func() (err error) { w, err = Watch(t.Context(), func(err error) { t.Error(err) }); return err }))
	defer w.Close()
	multipath := func(links ...string) *netlink.Route {
		r := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}
		for _, link := range links {
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: l.link(link).Attrs().Index, Gw: net.ParseIP("172.18.0.1"), Flags: int(netlink.FLAG_ONLINK)})
		}
		return r
	}
	rule := func(table int, change func(*netlink.Rule)) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Table, r.Priority = netlink.FAMILY_V4, table, 100
		change(r)
		return r
	}
	fwmark := rule(100, func(r *netlink.Rule) { r.Mark = 7 })
	suppressed := rule(100, func(r *netlink.Rule) { r.SuppressPrefixlen = 0 })
	from := rule(100, func(r *netlink.Rule) {
		r.Src = &net.IPNet{IP: net.IPv4(172, 18, 0, 2).To4(), Mask: net.CIDRMask(32, 32)}
	})
	all := rule(100, func(r *netlink.Rule) { r.Priority++ })
	inTable := func(r *netlink.Route, table int) *netlink.Route { r.Table = table; return r }
	noMetric := func(a *netlink.Addr) { a.Flags |= unix.IFA_F_NOPREFIXROUTE }
	for _, step := range []struct {
		name   string
		change func()
		v4, v6 string
	}{
		{"loopback only", func() {}, "", ""},
		{"no default route: the interface that came first", func() {
			l.add("eth0", "cni0", "eth1")
			l.address("cni0", "10.244.1.1/24", nil)
			l.address("eth0", "172.18.0.2/24", nil)
			l.address("cni0", "fd00:10::1/64", nil)
			l.address("eth0", "fd00:18::2/64", nil)
			l.address("eth1", "192.168.1.5/24", nil)
			l.address("eth1", "2001:db8::5/64", nil)
		}, "172.18.0.2", "fd00:18::2"},
		{"a virtual address on the loopback interface", func() {
			l.must(l.LinkSetUp(l.link("lo")))
			l.address("lo", "10.0.0.100/32", nil)
			l.address("lo", "fd00::100/128", nil)
		}, "172.18.0.2", "fd00:18::2"},
		{"a default route appears", func() { l.must(l.RouteAdd(l.route("eth1", "192.168.1.1", 100))) }, "192.168.1.5", "fd00:18::2"},
		{"of IPv6, too", func() { l.must(l.RouteAdd(l.route("eth1", "2001:db8::1", 100))) }, "192.168.1.5", "2001:db8::5"},
		{"a worse one", func() { l.must(l.RouteAdd(l.route("cni0", "10.244.1.254", 200))) }, "192.168.1.5", "2001:db8::5"},
		{"a better one", func() {
			l.must(l.RouteAdd(l.route("eth0", "172.18.0.1", 50)))
			l.must(l.RouteAdd(l.route("eth0", "fd00:18::1", 50)))
		}, "172.18.0.2", "fd00:18::2"},
		{"its interface goes down", func() { l.must(l.LinkSetDown(l.link("eth0"))) }, "192.168.1.5", "2001:db8::5"},
		{"and comes back", func() {
			l.must(l.LinkSetUp(l.link("eth0")))
			l.address("eth0", "fd00:18::2/64", nil) // the kernel drops those of IPv6
			l.must(l.RouteAdd(l.route("eth0", "172.18.0.1", 50)))
			l.must(l.RouteAdd(l.route("eth0", "fd00:18::1", 50)))
		}, "172.18.0.2", "fd00:18::2"},
		{"smaller and later addresses of the same interface", func() {
			l.address("eth0", "10.0.0.1/32", nil)    // a virtual one
			l.address("eth0", "172.18.0.1/24", nil)  // a secondary one
			l.address("eth0", "fd00:18::1/64", nil)  // newer
			l.address("eth0", "fd00:18::9/128", nil) // virtual
		}, "172.18.0.2", "fd00:18::2"},
		{"deprecated", func() {
			l.noAddress("eth0", "fd00:18::2/64")
			l.noAddress("eth0", "fd00:18::1/64")
			l.address("eth0", "fd00:18::3/64", func(a *netlink.Addr) { a.ValidLft, a.PreferedLft = 3600, 0 })
			l.address("eth0", "fd00:18::4/64", nil)
		}, "172.18.0.2", "fd00:18::4"},
		{"two subnets: that of the gateway", func() {
			l.noAddress("eth0", "fd00:18::9/128")
			l.noAddress("eth0", "172.18.0.2/24")
			l.noAddress("eth0", "10.0.0.1/32")
			l.address("eth0", "10.5.0.1/24", nil)
			l.address("eth0", "172.18.0.2/24", noMetric)
			l.must(l.RouteReplace(l.route("eth0", "10.5.0.254", 50)))
		}, "10.5.0.1", "fd00:18::4"},
		{"the route names its source", func() {
			r := l.route("eth0", "10.5.0.254", 50)
			r.Src = net.IPv4(10, 0, 0, 100)
			l.must(l.RouteReplace(r))
		}, "10.0.0.100", "fd00:18::4"},
		{"several next hops", func() {
			l.must(l.RouteDel(l.route("eth0", "10.5.0.254", 50)))
			l.must(l.RouteAdd(multipath("eth1", "eth0")))
		}, "192.168.1.5", "fd00:18::4"},
		{"a rule for some packets", func() {
			l.must(l.RouteAdd(inTable(l.route("cni0", "10.244.1.254", 0), 100)))
			l.must(l.RuleAdd(fwmark))
			l.must(l.RuleAdd(from))
			l.must(l.RuleAdd(suppressed))
		}, "192.168.1.5", "fd00:18::4"},
		{"a rule for all packets", func() { l.must(l.RuleAdd(all)) }, "10.244.1.1", "fd00:18::4"},
		{"no rule, no route", func() {
			l.must(l.RuleDel(all))
			l.must(l.RouteDel(multipath("eth1", "eth0")))
			l.must(l.RouteDel(l.route("eth1", "192.168.1.1", 100)))
			l.must(l.RouteDel(l.route("cni0", "10.244.1.254", 200)))
		}, "10.5.0.1", "fd00:18::4"},
		{"an interface without addresses: those of the loopback interface", func() {
			l.add("ppp0")
			l.must(l.RouteAdd(l.route("ppp0", "", 0)))
		}, "10.0.0.100", "fd00:18::4"},
	} {
		step.change()
		await(t, w, step.name, fmt.Sprintf("%s %s", orNone(step.v4), orNone(step.v6)))
	}
}

func orNone(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}

// await waits until the primary addresses are as wanted.
func await(t *testing.T, w *Watcher, name, want string) {
	t.Helper()
	deadline := time.After(netns.Patience())
	for {
		p := w.Primary()
		got := fmt.Sprintf("%s %s", p[0], p[1])
		if got == want {
			return
		}
		select {
		case <-w.Changed():
		case <-deadline:
			t.Fatalf("%s: primary addresses %s, want %s", name, got, want)
		}
	}
}
