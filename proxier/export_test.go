// SPDX-License-Identifier: Apache-2.0

package proxier

// BuildAll builds what has changed and makes the transaction, without a kernel.
func (p *Proxier) BuildAll() int {
	ch := p.cluster.Take()
	b := &builder{cluster: p.cluster, config: p.config.Rules, node: ch.Node}
	good, _ := p.syncer.program.aside.choose(ch.Owners)
	tx, _ := p.syncer.program.update(b.build(good))
	return tx.Len()
}
