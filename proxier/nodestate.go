// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// NodePortAddresses says which of the node's addresses serve NodePorts. As in kube-proxy, a family
// that is left without anything here serves on all of its addresses.
type NodePortAddresses struct {
	// CIDRs serves on those of the node's addresses that are in one of them. The prefix 0 stands for
	// all but loopback addresses. One of loopback addresses serves on 127.0.0.1 or ::1, by Config.LocalPorts.
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

// Addresses tells the node's own addresses.
type Addresses interface {
	// Addrs returns all of them, loopback ones included.
	Addrs() []netip.Addr
	// Primary returns, by family, the address by which the node is known where nobody says; it may be none.
	Primary() [2]netip.Addr
	// Changed gets a value when they may have changed.
	Changed() <-chan struct{}
}

// currentNode gathers what holds for all services now. p.mu is held.
func (p *Proxier) currentNode() rules.Node {
	n := rules.Node{Name: p.config.NodeName, Zone: p.node.Zone}
	var own []netip.Addr
	var primary [2]netip.Addr
	if p.config.Addresses != nil {
		own, primary = p.config.Addresses.Addrs(), p.config.Addresses.Primary()
	}
	for _, f := range rules.Families {
		n.IPs[f] = primaryIP(f, p.config.NodeIPs, p.node.IPs[:], primary[:])
	}
	if p.config.DetectNodeCIDR {
		n.PodCIDRs = slices.Clone(p.node.PodCIDRs)
	}
	n.NodePortIPs = nodePortIPs(p.config.NodePorts, n.IPs, own)
	for _, cidrs := range p.serviceCIDRs {
		n.ServiceCIDRs = append(n.ServiceCIDRs, cidrs...)
	}
	slices.SortFunc(n.ServiceCIDRs, comparePrefixes)
	return n
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

// healthAddresses returns where healthCheckNodePorts are: where NodePorts are. A family that the node is
// known to have no address of has none: it may be switched off.
func healthAddresses(want NodePortAddresses, nodePortIPs []netip.Addr, known bool) []netip.Addr {
	var out []netip.Addr
	for _, f := range rules.Families {
		own := slices.DeleteFunc(slices.Clone(nodePortIPs), func(a netip.Addr) bool { return rules.FamilyOf(a) != f })
		if want.all(f) && (len(own) > 0 || !known) {
			out = append(out, f.Unspecified())
			continue
		}
		if want.Localhost(f) {
			out = append(out, loopback(f))
		}
		out = append(out, own...)
	}
	return out
}

// loopback returns the address of a family by which a host reaches itself.
func loopback(f rules.Family) netip.Addr {
	if f == rules.IPv6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// listenable leaves out the addresses of families that the node does not have.
func (p *Proxier) listenable(list []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return p.config.Missing[rules.FamilyOf(a)] })
}

// syncNode programs what holds for all services, if that has changed, and marks
// the service ports that depend on it. What is refused of it holds up no services.
func (p *Proxier) syncNode() {
	p.mu.Lock()
	now := p.currentNode()
	was := p.programmedNode
	if now.Equal(&was) {
		p.mu.Unlock()
		return
	}
	if !now.BuildsEqual(&was) {
		p.store.markAll()
	}
	p.programmedNode = now
	p.store.setNodeAddrs(now.NodePortIPs)
	p.mu.Unlock()
	p.config.Health.SetAddresses(p.listenable(healthAddresses(p.config.NodePorts, now.NodePortIPs, p.config.Addresses != nil)))
	tx := p.desired.SetNode(now)
	if !p.adopted {
		return // adopt writes it
	}
	p.log.V(1).Info("The node has changed", "zone", now.Zone, "nodePortIPs", now.NodePortIPs,
		"podCIDRs", now.PodCIDRs, "serviceCIDRs", now.ServiceCIDRs)
	if err := p.apply(tx); err != nil {
		p.unequal = err // a comparison will try again
		p.config.Metrics.kubeProxy.failed()
		return
	}
	p.queueNodePortFlows(was.NodePortIPs, now.NodePortIPs)
}
