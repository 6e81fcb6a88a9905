// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// NodePortAddresses says which of the node's addresses serve NodePorts.
type NodePortAddresses struct {
	// All serves on all of the node's addresses but loopback ones.
	All bool
	// CIDRs serves on those of the node's addresses that are in one of them.
	CIDRs []netip.Prefix
	// Localhost serves on 127.0.0.1 and ::1, by Config.LocalPorts.
	Localhost bool
	// Primary serves on the addresses of the Node object. It is what the zero
	// value means, too.
	Primary bool
}

func (a NodePortAddresses) primary() bool {
	return a.Primary || !a.All && !a.Localhost && len(a.CIDRs) == 0
}

// all says whether all addresses of a family serve, as in kube-proxy: those of a family
// without a CIDR do where the other family has one.
func (a NodePortAddresses) all(f rules.Family) bool {
	return a.All || len(a.CIDRs) > 0 && !slices.ContainsFunc(a.CIDRs, func(p netip.Prefix) bool { return rules.FamilyOf(p.Addr()) == f && p.Bits() > 0 })
}

// Everything says whether all addresses of both families serve.
func (a NodePortAddresses) Everything() bool { return a.all(rules.IPv4) && a.all(rules.IPv6) }

// Addresses tells the node's own addresses.
type Addresses interface {
	// Addrs returns all of them, loopback ones included.
	Addrs() []netip.Addr
	// Changed gets a value when they may have changed.
	Changed() <-chan struct{}
}

// currentNode gathers what holds for all services now. p.mu is held.
func (p *Proxier) currentNode() rules.Node {
	n := rules.Node{Name: p.config.NodeName, Zone: p.node.Zone}
	var own []netip.Addr
	if p.config.Addresses != nil {
		own = p.config.Addresses.Addrs()
	}
	for _, f := range rules.Families {
		n.IPs[f] = primaryIP(f, p.config.NodeIPs, p.node.IPs[:], own)
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
// what the node has.
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

// healthAddresses returns where healthCheckNodePorts are: where NodePorts are.
func healthAddresses(want NodePortAddresses, nodePortIPs []netip.Addr) []netip.Addr {
	switch {
	case want.Everything():
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	case want.Localhost:
		return append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nodePortIPs...)
	}
	return nodePortIPs
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
	p.mu.Unlock()
	p.config.Health.SetAddresses(p.listenable(healthAddresses(p.config.NodePorts, now.NodePortIPs)))
	tx := p.desired.SetNode(now)
	if !p.adopted {
		return // adopt writes it
	}
	p.log.V(1).Info("The node has changed", "zone", now.Zone, "nodePortIPs", now.NodePortIPs,
		"podCIDRs", now.PodCIDRs, "serviceCIDRs", now.ServiceCIDRs)
	if err := p.apply(tx); err != nil {
		p.unequal = err // a comparison will try again
		p.config.Metrics.kubeProxy.failed()
	}
}
