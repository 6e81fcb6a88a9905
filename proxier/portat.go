// SPDX-License-Identifier: Apache-2.0

package proxier

import "github.com/nftproxy/nftproxy/rules"

// PortAt names the service port that has a frontend.
func (p *Proxier) PortAt(f rules.Frontend) (rules.ServicePortName, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	holder, ok := p.store.frontends.winner(f)
	return holder.owner.ServicePortName, ok
}
