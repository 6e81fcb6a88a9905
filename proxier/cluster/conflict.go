// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// Conflict is a frontend that an owner does without.
type Conflict struct {
	Frontend rules.Frontend
	// Holder gets it instead; without a name: nobody does.
	Holder rules.Owner
	// Why is reason.OlderService: the holder wants it as the same thing, and was there first; reason.BetterClaim: to the holder it is a
	// better one, see Class; or reason.ReachAPIServer: this node reaches its API server there.
	Why reason.Code
	// As is what the frontend is to the holder.
	As Class
}

// conflictOf returns why an owner does not get what it wants.
func (c *claims) conflictOf(cl claim) Conflict {
	winner, ok := c.winner(cl.Frontend)
	switch {
	case !ok:
		return Conflict{Frontend: cl.Frontend, Why: reason.ReachAPIServer}
	case winner.class < cl.class:
		return Conflict{cl.Frontend, winner.owner, reason.BetterClaim, winner.class}
	}
	return Conflict{cl.Frontend, winner.owner, reason.OlderService, winner.class}
}
