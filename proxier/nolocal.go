// SPDX-License-Identifier: Apache-2.0

package proxier

import "github.com/nftproxy/nftproxy/rules"

// noLocal is which traffic policies of an owner find no endpoint on this node.
type noLocal struct{ internal, external bool }

// noLocalOf says whether the policy Local leaves a service port without endpoints
// here, while there are some elsewhere.
func noLocalOf(sp *rules.ServicePort, u *rules.Usable) noLocal {
	if !sp.InternalLocal && !sp.ExternalLocal {
		return noLocal{}
	}
	none := u.Anywhere && len(u.Local) == 0
	return noLocal{internal: none && sp.InternalLocal, external: none && sp.ExternalLocal && sp.External()}
}

// noLocals counts such owners.
type noLocals struct {
	of      map[rules.Owner]noLocal
	metrics *kubeProxyMetrics
}

// set notes those of an owner.
func (l *noLocals) set(o rules.Owner, now noLocal) {
	was := l.of[o]
	if was == now {
		return
	}
	if l.of[o] = now; now == (noLocal{}) {
		delete(l.of, o)
	}
	for policy, change := range map[string][2]bool{"internal": {was.internal, now.internal}, "external": {was.external, now.external}} {
		gauge := l.metrics.noLocalEndpoints.WithLabelValues(policy, familyLabels[o.Family])
		switch {
		case change[1] && !change[0]:
			gauge.Inc()
		case change[0] && !change[1]:
			gauge.Dec()
		}
	}
}
