// SPDX-License-Identifier: Apache-2.0

package proxier

import "github.com/nftproxy/nftproxy/rules"

// PortAt names the service port that has a frontend: an element's key, without an
// address for a NodePort.
func (p *Proxier) PortAt(family rules.Family, key rules.Key) (rules.ServicePortName, bool) {
	f := frontend{key.Addr, key.Protocol, key.Port}
	if !f.addr.IsValid() {
		f.addr = unspecified(family)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	holder, ok := p.store.frontends.winner(f)
	return holder.owner.ServicePortName, ok
}
