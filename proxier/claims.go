// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// frontend is what only one service port can have. A NodePort's address is its
// family's unspecified one.
type frontend struct {
	addr     netip.Addr
	protocol rules.Protocol
	port     uint16
}

func (f frontend) String() string {
	if f.addr.IsUnspecified() {
		return fmt.Sprintf("NodePort %d/%s", f.port, f.protocol)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(f.addr, f.port), f.protocol)
}

// frontendsOf returns what a service port claims, each once.
func frontendsOf(sp *rules.ServicePort) []frontend {
	out := make([]frontend, 0, 2)
	add := func(a netip.Addr, port uint16) {
		if f := (frontend{a, sp.Protocol, port}); a.IsValid() && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	add(sp.ClusterIP, sp.Port)
	for _, list := range [][]netip.Addr{sp.LoadBalancerIPs, sp.ExternalIPs} {
		for _, a := range list {
			add(a, sp.Port)
		}
	}
	if sp.NodePort != 0 {
		add(unspecified(sp.Family), sp.NodePort)
	}
	return out
}

func unspecified(f rules.Family) netip.Addr {
	if f == rules.IPv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// claimant is an owner that wants a frontend. The older service gets it, then the
// one whose name sorts first: the same one on every node.
type claimant struct {
	owner   rules.Owner
	created time.Time
}

func (c claimant) compare(o claimant) int {
	return cmp.Or(c.created.Compare(o.created), compareOwners(c.owner, o.owner))
}

// claims knows who has each frontend and who else wants it.
type claims struct {
	holder  map[frontend]claimant
	waiting map[frontend][]claimant // rarely any
}

func newClaims() claims {
	return claims{holder: map[frontend]claimant{}, waiting: map[frontend][]claimant{}}
}

func (c *claims) holds(f frontend, o rules.Owner) bool { return c.holder[f].owner == o }

// withhold takes those frontends from a service port that others have, and returns
// them.
func (c *claims) withhold(sp *rules.ServicePort, o rules.Owner) []frontend {
	if len(c.waiting) == 0 {
		return nil
	}
	var lost []frontend
	for _, f := range frontendsOf(sp) {
		if !c.holds(f, o) {
			lost = append(lost, f)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	free := func(list []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool {
			return slices.Contains(lost, frontend{a, sp.Protocol, sp.Port})
		})
	}
	sp.ExternalIPs, sp.LoadBalancerIPs = free(sp.ExternalIPs), free(sp.LoadBalancerIPs)
	if slices.Contains(lost, frontend{sp.ClusterIP, sp.Protocol, sp.Port}) {
		sp.ClusterIP = netip.Addr{}
	}
	if slices.Contains(lost, frontend{unspecified(sp.Family), sp.Protocol, sp.NodePort}) {
		sp.NodePort = 0
	}
	return lost
}

// conflicts returns how many claims wait for their frontend.
func (c *claims) conflicts() int {
	n := 0
	for _, w := range c.waiting {
		n += len(w)
	}
	return n
}

// holderOf returns who has a frontend.
func (c *claims) holderOf(f frontend) rules.Owner { return c.holder[f].owner }

// claim notes that an owner wants a frontend. It returns the owner that loses it
// by that, if any.
func (c *claims) claim(f frontend, who claimant) (loser rules.Owner) {
	holder, held := c.holder[f]
	switch {
	case !held:
		c.holder[f] = who
	case who.compare(holder) < 0:
		c.holder[f] = who
		c.waiting[f] = append(c.waiting[f], holder)
		return holder.owner
	default:
		c.waiting[f] = append(c.waiting[f], who)
	}
	return rules.Owner{}
}

// release notes that an owner wants a frontend no more. It returns the owner that
// gets it by that, if any.
func (c *claims) release(f frontend, o rules.Owner) (heir rules.Owner) {
	waiting := c.waiting[f]
	if c.holder[f].owner != o {
		waiting = slices.DeleteFunc(waiting, func(w claimant) bool { return w.owner == o })
		c.keep(f, waiting)
		return rules.Owner{}
	}
	if len(waiting) == 0 {
		delete(c.holder, f)
		return rules.Owner{}
	}
	slices.SortFunc(waiting, claimant.compare)
	c.holder[f] = waiting[0]
	c.keep(f, waiting[1:])
	return c.holder[f].owner
}

func (c *claims) keep(f frontend, waiting []claimant) {
	if len(waiting) == 0 {
		delete(c.waiting, f)
		return
	}
	c.waiting[f] = waiting
}
