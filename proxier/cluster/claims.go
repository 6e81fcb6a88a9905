// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// claimant is an owner that wants a frontend. The better class gets it, of one class the older service,
// then the one whose name sorts first: the same one on every node.
type claimant struct {
	owner   rules.Owner
	created time.Time
	class   Class
}

func (c claimant) compare(o claimant) int {
	return cmp.Or(cmp.Compare(c.class, o.class), c.created.Compare(o.created), c.owner.Compare(o.owner))
}

// claims knows who has each frontend and who else wants it.
type claims struct {
	holder  map[rules.Frontend]claimant
	waiting map[rules.Frontend][]claimant // rarely any; sorted
	// outside finds, by the NodePort of the same number, the addresses whose holder has them as a load balancer's or as
	// an external IP: where they are the node's own, a NodePort goes first.
	outside map[rules.Frontend]map[netip.Addr]struct{}
	// nodeAddrs are the addresses that serve NodePorts, localhost the families whose loopback address does, too.
	nodeAddrs map[netip.Addr]struct{}
	localhost [2]bool
	// apiServers are where this node reaches its API server. Nobody gets them but as a ClusterIP: the node would
	// lose the API server, and never hear that the Service is gone.
	apiServers map[netip.AddrPort]struct{}
	// mark is told of owners that win or lose a frontend.
	mark func(...rules.Owner)
}

func newClaims(mark func(...rules.Owner)) claims {
	return claims{holder: map[rules.Frontend]claimant{}, waiting: map[rules.Frontend][]claimant{}, outside: map[rules.Frontend]map[netip.Addr]struct{}{}, mark: mark}
}

// claim notes that an owner wants a frontend.
func (c *claims) claim(f rules.Frontend, who claimant) {
	holder, held := c.holder[f]
	switch {
	case !held:
		c.hold(f, who)
	case who.compare(holder) < 0:
		c.wait(f, holder)
		c.hold(f, who)
		c.mark(holder.owner)
	default:
		c.wait(f, who)
	}
}

func (c *claims) wait(f rules.Frontend, who claimant) {
	list := c.waiting[f]
	at, _ := slices.BinarySearchFunc(list, who, claimant.compare)
	c.waiting[f] = slices.Insert(list, at, who)
}

// release notes that an owner wants a frontend no more.
func (c *claims) release(f rules.Frontend, who claimant) {
	waiting := c.waiting[f]
	if c.holder[f].owner != who.owner {
		if at, found := slices.BinarySearchFunc(waiting, who, claimant.compare); found {
			c.keep(f, slices.Delete(waiting, at, at+1))
		}
		return
	}
	if len(waiting) == 0 {
		c.hold(f, claimant{})
		return
	}
	c.hold(f, waiting[0])
	c.mark(waiting[0].owner)
	c.keep(f, waiting[1:])
}

func (c *claims) keep(f rules.Frontend, waiting []claimant) {
	if len(waiting) == 0 {
		delete(c.waiting, f)
		return
	}
	c.waiting[f] = waiting
}

// hold gives a frontend to an owner, or to nobody.
func (c *claims) hold(f rules.Frontend, who claimant) {
	if who.owner.Name == "" {
		delete(c.holder, f)
	} else {
		c.holder[f] = who
	}
	if f.IsNodePort() {
		c.markOutside(f)
		return
	}
	nodePort := f.NodePort()
	if who.class < classLoadBalancer {
		if list := c.outside[nodePort]; list != nil {
			if delete(list, f.Addr); len(list) == 0 {
				delete(c.outside, nodePort)
			}
		}
		return
	}
	if c.outside[nodePort] == nil {
		c.outside[nodePort] = map[netip.Addr]struct{}{}
	}
	c.outside[nodePort][f.Addr] = struct{}{}
}

// markOutside marks those that may win or lose an address of the node to a NodePort.
func (c *claims) markOutside(nodePort rules.Frontend) {
	for a := range c.outside[nodePort] {
		c.mark(c.holder[rules.Frontend{Addr: a, Protocol: nodePort.Protocol, Port: nodePort.Port}].owner)
	}
}

// winner returns who is served at a frontend; false: nobody.
func (c *claims) winner(f rules.Frontend) (claimant, bool) {
	holder, ok := c.holder[f]
	if !ok || holder.class == classClusterIP {
		return holder, ok
	}
	if c.refuses(f) {
		return claimant{}, false
	}
	if _, own := c.nodeAddrs[f.Addr]; own && holder.class >= classLoadBalancer {
		if first, ok := c.holder[f.NodePort()]; ok && !c.refuses(f.NodePort()) {
			return first, true
		}
	}
	return holder, true
}

// refuses says whether a frontend is where this node reaches its API server. A NodePort is if the
// API server is at an address of this node, or a loopback one, that serves NodePorts.
func (c *claims) refuses(f rules.Frontend) bool {
	if len(c.apiServers) == 0 || f.Protocol != rules.TCP {
		return false
	}
	if !f.IsNodePort() {
		_, ok := c.apiServers[netip.AddrPortFrom(f.Addr, f.Port)]
		return ok
	}
	for at := range c.apiServers {
		family := rules.FamilyOf(at.Addr())
		_, own := c.nodeAddrs[at.Addr()]
		own = own || c.localhost[family] && at.Addr() == Loopback(family)
		if own && at.Port() == f.Port && family == rules.FamilyOf(f.Addr) {
			return true
		}
	}
	return false
}

// holderOf returns who is served at a frontend; an owner without a name: nobody.
func (c *claims) holderOf(f rules.Frontend) rules.Owner {
	who, _ := c.winner(f)
	return who.owner
}

// withhold takes those frontends from a service port that it does not get, and returns
// them.
func (c *claims) withhold(sp *rules.ServicePort, o rules.Owner) (lost []claim) {
	if len(c.waiting) == 0 && !sp.External() {
		return nil
	}
	for _, cl := range claimsOf(sp) {
		if c.holderOf(cl.Frontend) != o {
			lost = append(lost, cl)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	gone := make(map[rules.Frontend]bool, len(lost))
	for _, cl := range lost {
		gone[cl.Frontend] = true
	}
	free := func(list []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return gone[rules.Frontend{Addr: a, Protocol: sp.Protocol, Port: sp.Port}] })
	}
	sp.ExternalIPs, sp.LoadBalancerIPs = free(sp.ExternalIPs), free(sp.LoadBalancerIPs)
	if gone[rules.Frontend{Addr: sp.ClusterIP, Protocol: sp.Protocol, Port: sp.Port}] {
		sp.ClusterIP = netip.Addr{}
	}
	if gone[rules.NodePort(sp.Family, sp.Protocol, sp.NodePort)] {
		sp.NodePort = 0
	}
	return lost
}

// setNodeAddrs says which addresses serve NodePorts.
func (c *claims) setNodeAddrs(list []netip.Addr) {
	now := make(map[netip.Addr]struct{}, len(list))
	for _, a := range list {
		now[a] = struct{}{}
	}
	changed := difference(c.nodeAddrs, now)
	if c.nodeAddrs = now; len(changed) == 0 {
		return
	}
	for nodePort, addrs := range c.outside {
		first, ok := c.holder[nodePort]
		if !ok {
			continue
		}
		for a := range addrs {
			if _, ok := changed[a]; ok {
				c.mark(first.owner, c.holder[rules.Frontend{Addr: a, Protocol: nodePort.Protocol, Port: nodePort.Port}].owner)
			}
		}
	}
	for at := range c.apiServers {
		if _, ok := changed[at.Addr()]; ok {
			c.markNodePort(at)
		}
	}
}

// setAPIServers says where this node reaches its API server, and whether that is news.
func (c *claims) setAPIServers(list []netip.AddrPort) (news bool) {
	now := make(map[netip.AddrPort]struct{}, len(list))
	for _, at := range list {
		now[at] = struct{}{}
	}
	changed := difference(c.apiServers, now)
	c.apiServers = now
	for at := range changed {
		c.mark(c.holder[rules.FrontendAt(at, rules.TCP)].owner)
		c.markNodePort(at)
	}
	return len(changed) > 0
}

// markNodePort marks who has the NodePort of an API server's number, and those whom it goes before.
func (c *claims) markNodePort(at netip.AddrPort) {
	nodePort := rules.FrontendAt(at, rules.TCP).NodePort()
	c.mark(c.holder[nodePort].owner)
	c.markOutside(nodePort)
}

// difference returns what only one of two sets has.
func difference[T comparable](a, b map[T]struct{}) map[T]struct{} {
	out := map[T]struct{}{}
	for x := range a {
		if _, ok := b[x]; !ok {
			out[x] = struct{}{}
		}
	}
	for x := range b {
		if _, ok := a[x]; !ok {
			out[x] = struct{}{}
		}
	}
	return out
}
