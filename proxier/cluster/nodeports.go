// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// NodePortAddresses says which of the node's addresses serve NodePorts. As in kube-proxy, a family
// that is left without anything here serves on all of its addresses.
type NodePortAddresses struct {
	// CIDRs serves on those of the node's addresses that are in one of them. The prefix 0 stands for
	// all but loopback addresses. One of loopback addresses serves on 127.0.0.1 or ::1, by the program itself.
	CIDRs []netip.Prefix
	// Primary serves on the node's primary addresses. It is what the zero value means, too.
	Primary bool
}

func (a NodePortAddresses) primary() bool { return a.Primary || len(a.CIDRs) == 0 }

// has says whether there is a CIDR of a family that some condition holds for.
func (a NodePortAddresses) has(f rules.Family, condition func(netip.Prefix) bool) bool {
	return slices.ContainsFunc(a.CIDRs, func(p netip.Prefix) bool { return rules.FamilyOf(p.Addr()) == f && condition(p) })
}

// all says whether all addresses of a family serve. A family without a primary address never does
// for want of one: kube-proxy opens all of its addresses then, which nobody asked for.
func (a NodePortAddresses) all(f rules.Family) bool {
	named := a.primary() || a.has(f, func(netip.Prefix) bool { return true })
	return !named || a.has(f, func(p netip.Prefix) bool { return p.Bits() == 0 })
}

// Everything says whether all addresses of both families serve.
func (a NodePortAddresses) Everything() bool { return a.all(rules.IPv4) && a.all(rules.IPv6) }

// Localhost says whether a family's loopback address serves.
func (a NodePortAddresses) Localhost(f rules.Family) bool {
	return a.has(f, func(p netip.Prefix) bool { return p.Addr().IsLoopback() })
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// primaryIP returns the first address of a family that is good for other hosts, out
// of the first list that has one: what was configured, what the Node object says, and
// what the node's routes say.
func primaryIP(f rules.Family, lists ...[]netip.Addr) netip.Addr {
	for _, list := range lists {
		for _, a := range list {
			if a.IsValid() && rules.FamilyOf(a) == f && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
				return a
			}
		}
	}
	return netip.Addr{}
}

// nodePortIPs returns the addresses that serve NodePorts, sorted.
func nodePortIPs(want NodePortAddresses, primary [2]netip.Addr, own []netip.Addr) []netip.Addr {
	var out []netip.Addr
	if want.primary() {
		for _, a := range primary {
			if a.IsValid() {
				out = append(out, a)
			}
		}
	}
	for _, a := range own {
		if a.IsLoopback() {
			continue
		}
		if want.all(rules.FamilyOf(a)) || slices.ContainsFunc(want.CIDRs, func(p netip.Prefix) bool { return p.Contains(a) }) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// HealthAddresses returns where healthCheckNodePorts are: where NodePorts are, at nodePortIPs. A family that the node is
// known to have no address of has none: it may be switched off.
func (a NodePortAddresses) HealthAddresses(nodePortIPs []netip.Addr, known bool) []netip.Addr {
	var out []netip.Addr
	for _, f := range rules.Families {
		own := slices.DeleteFunc(slices.Clone(nodePortIPs), func(own netip.Addr) bool { return rules.FamilyOf(own) != f })
		if a.all(f) && (len(own) > 0 || !known) {
			out = append(out, f.Unspecified())
			continue
		}
		if a.Localhost(f) {
			out = append(out, Loopback(f))
		}
		out = append(out, own...)
	}
	return out
}
