// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nodeaddr

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routing is what says how packets leave the node, in one family.
type routing struct {
	rules  []netlink.Rule
	routes []netlink.Route // the default ones, of all tables
}

// primaryOf returns the address that other hosts know the node by: that with which it answers by its
// default route. Without such a route it is one of the interface that came first.
func primaryOf(r routing, addrs []netlink.Addr) netip.Addr {
	usable := make([]netlink.Addr, 0, len(addrs))
	for i := range addrs {
		if a, ok := addressOf(&addrs[i]); ok && !a.IsLoopback() {
			usable = append(usable, addrs[i])
		}
	}
	defaults := r.defaults()
	for i := range defaults {
		if a := sourceOf(&defaults[i], usable); a.IsValid() {
			return a
		}
	}
	// The loopback interface's addresses are the node's own where its other interfaces have none, as
	// the kernel takes them for. Else they are somebody's virtual ones.
	const loopback = 1
	return best(usable, func(a *netlink.Addr) int {
		switch {
		case a.LinkIndex != loopback:
			return a.LinkIndex
		case len(defaults) > 0:
			return 0
		}
		return math.MaxInt
	})
}

// defaults returns the default routes in the order in which the kernel tries them.
func (r routing) defaults() []netlink.Route {
	var out []netlink.Route
	for _, table := range r.tables() {
		var of []netlink.Route
		for i := range r.routes {
			if route := &r.routes[i]; route.Table == table && route.Type == unix.RTN_UNICAST && route.Flags&unix.RTNH_F_DEAD == 0 {
				of = append(of, *route)
			}
		}
		slices.SortStableFunc(of, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
		out = append(out, of...)
	}
	return out
}

// tables returns the routing tables that packets of all kinds are looked up in.
func (r routing) tables() []int {
	rules := slices.Clone(r.rules)
	slices.SortStableFunc(rules, func(a, b netlink.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	var out []int
	for i := range rules {
		if isForAll(&rules[i]) && !slices.Contains(out, rules[i].Table) {
			out = append(out, rules[i].Table)
		}
	}
	if len(out) == 0 {
		out = []int{unix.RT_TABLE_MAIN}
	}
	return out
}

// isForAll says whether a rule has no condition and lets default routes count.
func isForAll(r *netlink.Rule) bool {
	some := r.Src != nil || r.Dst != nil || r.Mark != 0 || r.Mask != nil && *r.Mask != 0 || r.IifName != "" || r.OifName != "" ||
		r.Tos != 0 || r.TunID != 0 || r.IPProto != 0 || r.Sport != nil || r.Dport != nil || r.UIDRange != nil
	return !some && !r.Invert && r.SuppressPrefixlen < 0
}

// sourceOf returns the address that packets get which leave by a route; none if its interface has none.
func sourceOf(r *netlink.Route, addrs []netlink.Addr) netip.Addr {
	if want, ok := netip.AddrFromSlice(r.Src); ok {
		for i := range addrs {
			if a, _ := addressOf(&addrs[i]); a == want.Unmap() {
				return a
			}
		}
	}
	hops := []netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
	if len(r.MultiPath) > 0 {
		hops = hops[:0]
		for _, hop := range r.MultiPath {
			if hop.Flags&unix.RTNH_F_DEAD == 0 {
				hops = append(hops, *hop)
			}
		}
	}
	for _, hop := range hops {
		var of []netlink.Addr
		for i := range addrs {
			if addrs[i].LinkIndex == hop.LinkIndex {
				of = append(of, addrs[i])
			}
		}
		a := best(of, func(a *netlink.Addr) int {
			if a.IPNet.Contains(hop.Gw) {
				return 0
			}
			return 1
		})
		if a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// best returns the address of the lowest rank. What is about to go, or changes every day, comes last, and
// what came first comes first: virtual addresses of others come later.
func best(addrs []netlink.Addr, rank func(*netlink.Addr) int) netip.Addr {
	if len(addrs) == 0 {
		return netip.Addr{}
	}
	addrs = slices.Clone(addrs)
	if addrs[0].IP.To4() == nil {
		slices.Reverse(addrs) // the kernel lists the newest one first
	}
	deprecated := func(a *netlink.Addr) int { return a.Flags & unix.IFA_F_DEPRECATED }
	// Of IPv4 this flag says that another address of the subnet comes first, of IPv6 that it is temporary.
	second := func(a *netlink.Addr) int { return a.Flags & unix.IFA_F_SECONDARY }
	chosen := slices.MinFunc(addrs, func(a, b netlink.Addr) int {
		return cmp.Or(cmp.Compare(deprecated(&a), deprecated(&b)), cmp.Compare(second(&a), second(&b)), cmp.Compare(rank(&a), rank(&b)))
	})
	a, _ := addressOf(&chosen)
	return a
}

// addressOf returns an address that is in use; false for one that is link-local, or that duplicate address
// detection has not let through.
func addressOf(a *netlink.Addr) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(a.IP)
	addr = addr.Unmap()
	return addr, ok && !addr.IsLinkLocalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
}
