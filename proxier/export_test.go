// SPDX-License-Identifier: Apache-2.0

package proxier

// BuildAll builds what has changed and makes the transaction, without a kernel.
func (p *Proxier) BuildAll() int {
	good, _ := p.collect()
	tx, _ := p.update(good)
	return tx.Len()
}
