// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"maps"
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
	var have elementsFound
	if err := p.config.Kernel.Scan(p.config.Rules.Table, elementsAt(list), &have); err != nil {
		return fmt.Errorf("read the kernel's tables: %w", err)
	}
	tx := rules.Tx{Name: p.config.Rules.Table}
	for _, f := range rules.Families {
		p.freeOf(f, have[f], list, &tx)
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

// The sets that have a frontend at an address, and a NodePort.
var (
	frontendSets = [...]rules.SetKind{rules.Sticky, rules.MasqueradeIPs, rules.Single, rules.ServiceIPs}
	nodePortSets = [...]rules.SetKind{rules.StickyNodePorts, rules.MasqueradeNodePorts, rules.SingleNodePorts, rules.NodePorts}
)

// elementsAt names what there may be at API servers' addresses: a table may be large.
func elementsAt(list []netip.AddrPort) (out []rules.Thing) {
	for _, at := range list {
		add := func(k rules.Key, kinds ...rules.SetKind) {
			for _, kind := range kinds {
				out = append(out, rules.Thing{Kind: rules.ThingElement, Family: rules.FamilyOf(at.Addr()), Name: rules.SetID{Kind: kind}.Name(), Key: k})
			}
		}
		add(rules.Key{Addr: at.Addr()}, rules.ClusterIPs, rules.NodePortIPs)
		add(rules.Key{Addr: at.Addr(), Protocol: rules.TCP, Port: at.Port()}, frontendSets[:]...)
		add(rules.Key{Protocol: rules.TCP, Port: at.Port()}, nodePortSets[:]...)
	}
	return out
}

// elementsFound gathers elements, by family.
type elementsFound [2]map[rules.SetID]map[rules.Key]rules.Value

// Begin implements rules.Parts.
func (e *elementsFound) Begin() { *e = elementsFound{{}, {}} }

// Part implements rules.Parts.
func (e *elementsFound) Part(p rules.Part) {
	if p.Table == nil {
		return
	}
	for id, set := range p.Table.Sets {
		if e[p.Family][id] == nil {
			e[p.Family][id] = map[rules.Key]rules.Value{}
		}
		maps.Copy(e[p.Family][id], set)
	}
}

// freeOf adds the deletion of the frontends at API servers' addresses in a table, but for ClusterIPs.
func (p *Proxier) freeOf(f rules.Family, sets map[rules.SetID]map[rules.Key]rules.Value, list []netip.AddrPort, tx *rules.Tx) {
	gone := map[rules.SetKind][]rules.Element{}
	find := func(k rules.Key, kinds []rules.SetKind) {
		for _, kind := range kinds {
			if v, ok := sets[rules.SetID{Kind: kind}][k]; ok {
				gone[kind] = append(gone[kind], rules.Element{Key: k, Value: v})
			}
		}
	}
	numbers := map[uint16]bool{} // several API servers may have one
	for _, at := range list {
		if rules.FamilyOf(at.Addr()) != f {
			continue
		}
		if _, ok := sets[rules.SetID{Kind: rules.ClusterIPs}][rules.Key{Addr: at.Addr()}]; ok {
			continue
		}
		find(rules.Key{Addr: at.Addr(), Protocol: rules.TCP, Port: at.Port()}, frontendSets[:])
		_, serves := sets[rules.SetID{Kind: rules.NodePortIPs}][rules.Key{Addr: at.Addr()}]
		if (serves || p.mayServeNodePorts(at.Addr())) && !numbers[at.Port()] {
			numbers[at.Port()] = true
			find(rules.Key{Protocol: rules.TCP, Port: at.Port()}, nodePortSets[:])
		}
	}
	for kind, elements := range gone {
		tx.Add(rules.Op{Kind: rules.DeleteElements, Family: f, Set: rules.SetID{Kind: kind}, Elements: elements})
	}
}

// mayServeNodePorts says whether NodePorts may be served at an address though no list in the kernel has it.
func (p *Proxier) mayServeNodePorts(a netip.Addr) bool {
	return p.config.Rules.AllNodePortIPs && p.config.Addresses != nil && slices.Contains(p.config.Addresses.Addrs(), a)
}
