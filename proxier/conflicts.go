// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"strings"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// conflicts knows which frontends owners do without, and tells of each once.
type conflicts struct {
	*teller
	told    map[rules.Owner]map[cluster.Conflict]struct{} // without As
	lost    int                                           // how many conflicts there are
	telling telling
}

// mostConflicts is how many conflicts of a Service are named at a time.
const mostConflicts = 3

// telling gathers what is to be told of a Service's conflicts.
type telling struct {
	service cluster.ObjectName
	texts   []string
	more    int // that are not named
}

func newConflicts(t *teller) conflicts {
	return conflicts{teller: t, told: map[rules.Owner]map[cluster.Conflict]struct{}{}}
}

// set notes the frontends that an owner must do without; tell tells of them, once.
func (c *conflicts) set(o rules.Owner, lost []cluster.Conflict) {
	told := c.told[o]
	c.lost += len(lost) - len(told)
	if len(lost) == 0 {
		delete(c.told, o)
		return
	}
	if n := cluster.ServiceOf(o); n != c.telling.service {
		c.tell()
		c.telling.service = n
	}
	now := make(map[cluster.Conflict]struct{}, len(lost))
	for _, l := range lost {
		key := l
		key.As = 0
		now[key] = struct{}{}
		if _, ok := told[key]; ok {
			continue
		}
		if len(c.telling.texts) == mostConflicts {
			c.telling.more++
			continue
		}
		c.line(o, l)
		c.telling.texts = append(c.telling.texts, fmt.Sprintf("%s is not served for %s: %s", l.Frontend, o.ServicePortName, conflictEvent(o, l)))
	}
	c.told[o] = now
}

// tell tells of the conflicts that were noted of one Service.
func (c *conflicts) tell() {
	t := c.telling
	c.telling = telling{}
	if t.more > 0 {
		c.log.Info("Not served: more addresses and ports that others have", "service", t.service.String(), "number", t.more)
		t.texts = append(t.texts, fmt.Sprintf("and %d more are not", t.more))
	}
	if len(t.texts) > 0 {
		c.service(t.service, reasonConflict, strings.Join(t.texts, "; "))
	}
}

// line tells of a conflict in the log.
func (c *conflicts) line(o rules.Owner, l cluster.Conflict) {
	switch l.Why {
	case cluster.APIServer:
		c.log.Info("Not served: this node reaches its API server there", "servicePort", o.String(), "frontend", l.Frontend.String())
	case cluster.Better:
		c.log.Info("Not served: another service has a better claim to this address, protocol and port", "servicePort", o.String(),
			"frontend", l.Frontend.String(), "servedInstead", l.Holder.String(), "asIts", l.As.String())
	default:
		c.log.Info("Not served: an older service has this address, protocol and port", "servicePort", o.String(),
			"frontend", l.Frontend.String(), "servedInstead", l.Holder.String())
	}
}

// conflictEvent says why in an event, which those of the owner's namespace read: Services of others have no names there.
func conflictEvent(o rules.Owner, c cluster.Conflict) string {
	holder := c.Holder.ServicePortName.String()
	foreign := c.Holder.Namespace != o.Namespace
	switch {
	case c.Why == cluster.APIServer:
		return "this node reaches its API server there"
	case c.Why == cluster.Better && foreign:
		return fmt.Sprintf("it is the %s of another Service", c.As)
	case c.Why == cluster.Better:
		return fmt.Sprintf("it is the %s of %s", c.As, holder)
	case foreign:
		return "an older Service in another namespace has it"
	}
	return fmt.Sprintf("the older %s has it", holder)
}

// conflictText says why, to those who may know of all Services.
func conflictText(c cluster.Conflict) string {
	switch c.Why {
	case cluster.APIServer:
		return "by which this node reaches its API server"
	case cluster.Better:
		return fmt.Sprintf("which is the %s of Service port %s", c.As, c.Holder.ServicePortName)
	}
	return fmt.Sprintf("which the older Service port %s has", c.Holder.ServicePortName)
}
