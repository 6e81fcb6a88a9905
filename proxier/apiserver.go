// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// SetAPIServers says at which addresses and ports this node reaches its API server. No Service gets them as a
// load balancer's address, an external IP or a NodePort: the node would lose the API server, and never hear that the
// Service is gone. It may be called at any time, each time with all of them; what others have is taken from them.
func (p *Proxier) SetAPIServers(list []netip.AddrPort) {
	p.mu.Lock()
	news := p.store.setAPIServers(list)
	p.mu.Unlock()
	if news {
		p.signal()
	}
}

// FreeAPIServers deletes from the kernel what an earlier run has left where this node reaches its API server:
// without it the lists might never come in. It is called before the source runs, and not during Run, which does the
// same for what becomes known before the first commit.
func (p *Proxier) FreeAPIServers() error {
	list := p.newAPIServers()
	if len(list) == 0 {
		return nil
	}
	have, err := p.config.Kernel.Read(p.config.Rules.Table)
	if err != nil {
		return fmt.Errorf("read the kernel's tables: %w", err)
	}
	tx := rules.Tx{Name: p.config.Rules.Table}
	for _, f := range rules.Families {
		if t := have.Tables[f]; t != nil {
			p.freeOf(f, t, list, &tx)
		}
	}
	if tx.Len() > 0 {
		p.log.Info("The kernel's rules of an earlier run lead connections to the API server astray: they are deleted", "apiServers", list)
		if err := p.apply(tx); err != nil {
			return fmt.Errorf("delete frontends at the API server's address: %w", err)
		}
	}
	for _, at := range list {
		p.freed[at] = struct{}{}
	}
	return nil
}

// newAPIServers returns those whose addresses have not been freed yet.
func (p *Proxier) newAPIServers() []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []netip.AddrPort
	for at := range p.store.frontends.apiServers {
		if _, ok := p.freed[at]; !ok {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// freeOf adds the deletion of the frontends at API servers' addresses in a table, but for ClusterIPs.
func (p *Proxier) freeOf(f rules.Family, t *rules.Table, list []netip.AddrPort, tx *rules.Tx) {
	gone := map[rules.SetKind][]rules.Element{}
	find := func(k rules.Key, kinds ...rules.SetKind) {
		for _, kind := range kinds {
			if v, ok := t.Sets[rules.SetID{Kind: kind}][k]; ok {
				gone[kind] = append(gone[kind], rules.Element{Key: k, Value: v})
			}
		}
	}
	numbers := map[uint16]bool{} // several API servers may have one
	for _, at := range list {
		if rules.FamilyOf(at.Addr()) != f {
			continue
		}
		if _, ok := t.Sets[rules.SetID{Kind: rules.ClusterIPs}][rules.Key{Addr: at.Addr()}]; ok {
			continue
		}
		find(rules.Key{Addr: at.Addr(), Protocol: rules.TCP, Port: at.Port()},
			rules.Sticky, rules.MasqueradeIPs, rules.Single, rules.ServiceIPs)
		if p.servesNodePorts(at.Addr(), t) && !numbers[at.Port()] {
			numbers[at.Port()] = true
			find(rules.Key{Protocol: rules.TCP, Port: at.Port()},
				rules.StickyNodePorts, rules.MasqueradeNodePorts, rules.SingleNodePorts, rules.NodePorts)
		}
	}
	for kind, elements := range gone {
		tx.Add(rules.Op{Kind: rules.DeleteElements, Family: f, Set: rules.SetID{Kind: kind}, Elements: elements})
	}
}

// servesNodePorts says whether NodePorts are, or may soon be, served at an address.
func (p *Proxier) servesNodePorts(a netip.Addr, t *rules.Table) bool {
	if _, ok := t.Sets[rules.SetID{Kind: rules.NodePortIPs}][rules.Key{Addr: a}]; ok {
		return true
	}
	return p.config.Rules.AllNodePortIPs && p.config.Addresses != nil && slices.Contains(p.config.Addresses.Addrs(), a)
}
