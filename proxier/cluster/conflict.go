// SPDX-License-Identifier: Apache-2.0

package cluster

import "github.com/nftproxy/nftproxy/rules"

// Conflict is a frontend that an owner does without.
type Conflict struct {
	Frontend rules.Frontend
	// Holder gets it instead; without a name: nobody does.
	Holder rules.Owner
	Why    Why
	// As is what the frontend is to the holder.
	As Class
}

// Why says why an owner does not get a frontend.
type Why uint8

// The reasons.
const (
	Older     Why = iota // the holder wants it as the same thing, and was there first
	Better               // to the holder it is a better one: see Class
	APIServer            // this node reaches its API server there
)

// conflictOf returns why an owner does not get what it wants.
func (c *claims) conflictOf(cl claim) Conflict {
	winner, ok := c.winner(cl.Frontend)
	switch {
	case !ok:
		return Conflict{Frontend: cl.Frontend, Why: APIServer}
	case winner.class < cl.class:
		return Conflict{cl.Frontend, winner.owner, Better, winner.class}
	}
	return Conflict{cl.Frontend, winner.owner, Older, winner.class}
}
