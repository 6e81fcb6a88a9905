// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// conflict is a frontend that an owner does without because an older service has it.
type conflict struct {
	owner    rules.Owner
	frontend frontend
}

// reportConflicts tells, once, of the frontends that an owner must do without.
// p.mu is held.
func (p *Proxier) reportConflicts(o rules.Owner, lost []frontend) {
	for c := range p.conflicts {
		if c.owner == o && !slices.Contains(lost, c.frontend) {
			delete(p.conflicts, c)
		}
	}
	for _, f := range lost {
		c := conflict{o, f}
		holder := p.store.frontends.holderOf(f)
		if p.conflicts[c] == holder {
			continue
		}
		p.conflicts[c] = holder
		p.log.Info("Not served: an older service has this address, protocol and port", "servicePort", o.String(),
			"frontend", f.String(), "servedInstead", holder.String())
		p.warnService(serviceOf(o), reasonConflict, fmt.Sprintf("%s is not served for %s: the older %s has it", f, o.ServicePortName, holder.ServicePortName))
	}
}
