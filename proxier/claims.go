// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// frontend is what only one service port can have.
type frontend struct {
	addr     netip.Addr
	protocol rules.Protocol
	port     uint16
}

func frontendOf(sp rules.ServicePort) frontend { return frontend{sp.ClusterIP, sp.Protocol, sp.Port} }

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
