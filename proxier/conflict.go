// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"strings"

	"github.com/nftproxy/nftproxy/rules"
)

// conflict is a frontend that an owner does without.
type conflict struct {
	frontend rules.Frontend
	holder   rules.Owner // without a name: nobody has it
	why      reason
}

// reason says why an owner does not get a frontend.
type reason uint8

const (
	older     reason = iota // the holder wants it as the same thing, and was there first
	better                  // to the holder it is a better one: see class
	apiServer               // this node reaches its API server there
)

// conflictOf returns why an owner does not get what it wants, and what that is to the winner.
func (c *claims) conflictOf(cl claim) (conflict, class) {
	winner, ok := c.winner(cl.Frontend)
	switch {
	case !ok:
		return conflict{cl.Frontend, rules.Owner{}, apiServer}, 0
	case winner.class < cl.class:
		return conflict{cl.Frontend, winner.owner, better}, winner.class
	}
	return conflict{cl.Frontend, winner.owner, older}, winner.class
}

// text says why, to those who may know of all Services.
func (c conflict) text(what class) string {
	switch c.why {
	case apiServer:
		return "by which this node reaches its API server"
	case better:
		return fmt.Sprintf("which is the %s of Service port %s", what, c.holder.ServicePortName)
	}
	return fmt.Sprintf("which the older Service port %s has", c.holder.ServicePortName)
}

// tell says why in an event, which those of the owner's namespace read: Services of others have no names there.
func (c conflict) tell(o rules.Owner, what class) string {
	holder := c.holder.ServicePortName.String()
	foreign := c.holder.Namespace != o.Namespace
	switch {
	case c.why == apiServer:
		return "this node reaches its API server there"
	case c.why == better && foreign:
		return fmt.Sprintf("it is the %s of another Service", what)
	case c.why == better:
		return fmt.Sprintf("it is the %s of %s", what, holder)
	case foreign:
		return "an older Service in another namespace has it"
	}
	return fmt.Sprintf("the older %s has it", holder)
}

// mostConflicts is how many conflicts of a Service are named at a time.
const mostConflicts = 3

// telling gathers what is to be told of a Service's conflicts.
type telling struct {
	service objectName
	texts   []string
	more    int // that are not named
}

// reportConflicts notes the frontends that an owner must do without; tellConflicts tells of them, once.
// p.mu is held.
func (p *Proxier) reportConflicts(o rules.Owner, lost []claim) {
	told := p.conflicts[o]
	p.lost += len(lost) - len(told)
	if len(lost) == 0 {
		delete(p.conflicts, o)
		return
	}
	if serviceOf(o) != p.telling.service {
		p.tellConflicts()
		p.telling.service = serviceOf(o)
	}
	now := make(map[conflict]struct{}, len(lost))
	for _, cl := range lost {
		c, what := p.store.frontends.conflictOf(cl)
		now[c] = struct{}{}
		if _, ok := told[c]; ok {
			continue
		}
		if len(p.telling.texts) == mostConflicts {
			p.telling.more++
			continue
		}
		p.logConflict(o, c, what)
		p.telling.texts = append(p.telling.texts, fmt.Sprintf("%s is not served for %s: %s", cl.Frontend, o.ServicePortName, c.tell(o, what)))
	}
	p.conflicts[o] = now
}

// tellConflicts tells of the conflicts that were noted of one Service. p.mu is held.
func (p *Proxier) tellConflicts() {
	t := p.telling
	p.telling = telling{}
	if t.more > 0 {
		p.log.Info("Not served: more addresses and ports that others have", "service", t.service.String(), "number", t.more)
		t.texts = append(t.texts, fmt.Sprintf("and %d more are not", t.more))
	}
	if len(t.texts) > 0 {
		p.warnService(t.service, reasonConflict, strings.Join(t.texts, "; "))
	}
}

func (p *Proxier) logConflict(o rules.Owner, c conflict, what class) {
	switch c.why {
	case apiServer:
		p.log.Info("Not served: this node reaches its API server there", "servicePort", o.String(), "frontend", c.frontend.String())
	case better:
		p.log.Info("Not served: another service has a better claim to this address, protocol and port", "servicePort", o.String(),
			"frontend", c.frontend.String(), "servedInstead", c.holder.String(), "asIts", what.String())
	default:
		p.log.Info("Not served: an older service has this address, protocol and port", "servicePort", o.String(),
			"frontend", c.frontend.String(), "servedInstead", c.holder.String())
	}
}
