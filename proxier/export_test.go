// SPDX-License-Identifier: Apache-2.0

package proxier

import "github.com/nftproxy/nftproxy/rules"

// BuildAll builds what has changed and makes the transaction, without a kernel.
func (p *Proxier) BuildAll() int {
	ch, view := p.cluster.Take()
	defer view.Close()
	b := &builder{view: view, config: p.config.Rules, node: ch.Node}
	good, _ := p.syncer.program.aside.choose(ch.Each())
	tx, _ := p.syncer.program.update(b.build(good))
	return tx.Len()
}

// Sync programs what has changed, as Run does.
func (p *Proxier) Sync() error { return p.syncer.sync() }

// OnSelect has fn called for each owner with failover whose endpoints are selected: who does that asks just before which of
// them are ejected.
func (p *Proxier) OnSelect(fn func(rules.Owner)) {
	ejected := p.syncer.ejected
	p.syncer.ejected = func(o rules.Owner) rules.Ejection {
		fn(o)
		return ejected(o)
	}
}
