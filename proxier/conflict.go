// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// conflict is a frontend that an owner does without because an older service has it.
type conflict struct {
	frontend frontend
	holder   rules.Owner
}

// reportConflicts tells, once, of the frontends that an owner must do without.
// p.mu is held.
func (p *Proxier) reportConflicts(o rules.Owner, lost []frontend) {
	told := p.conflicts[o]
	if len(lost) == 0 {
		delete(p.conflicts, o)
		return
	}
	now := make([]conflict, len(lost))
	for i, f := range lost {
		now[i] = conflict{f, p.store.frontends.holderOf(f)}
		if slices.Contains(told, now[i]) {
			continue
		}
		holder := now[i].holder
		p.log.Info("Not served: an older service has this address, protocol and port", "servicePort", o.String(),
			"frontend", f.String(), "servedInstead", holder.String())
		p.warnService(serviceOf(o), reasonConflict, fmt.Sprintf("%s is not served for %s: the older %s has it", f, o.ServicePortName, holder.ServicePortName))
	}
	p.conflicts[o] = now
}
