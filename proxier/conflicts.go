// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"strings"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
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

// set notes the frontends that an owner must do without. It logs those that are new, and gathers them for the Service's one Event, which
// tell sends.
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
		c.log.Info(reason.MoreConflicts.Log(), "service", t.service.String(), "number", t.more)
		t.texts = append(t.texts, reason.MoreConflicts.Text(t.more))
	}
	if len(t.texts) > 0 {
		c.service(t.service, reason.EventConflict, strings.Join(t.texts, "; "))
	}
}

// line tells of a conflict in the log.
func (c *conflicts) line(o rules.Owner, l cluster.Conflict) {
	about := []any{"servicePort", o.String(), "frontend", l.Frontend.String()}
	if l.Why != reason.ReachAPIServer {
		about = append(about, "servedInstead", l.Holder.String())
	}
	if l.Why == reason.BetterClaim {
		about = append(about, "asIts", l.As.String())
	}
	c.log.Info(l.Why.Log(), about...)
}

// conflictEvent says why in an event, which those of the owner's namespace read: Services of others have no names there.
func conflictEvent(o rules.Owner, c cluster.Conflict) string {
	args := conflictArgs(c)
	if c.Holder.Namespace != o.Namespace {
		return c.Why.ForeignNote(args[:max(0, len(args)-1)]...) // without the name
	}
	return c.Why.Note(args...)
}

// conflictArgs returns what the reason names; the holder, if any, comes last.
func conflictArgs(c cluster.Conflict) []any {
	switch c.Why {
	case reason.OlderService:
		return []any{c.Holder.ServicePortName}
	case reason.BetterClaim:
		return []any{c.As, c.Holder.ServicePortName}
	}
	return nil
}
