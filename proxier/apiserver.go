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
	var things []rules.Thing
	for _, at := range list {
		things = append(things, frontendsAt(at)...)
	}
	found := elementFinder{}
	if err := p.config.Kernel.Scan(p.config.Rules.Table, things, found); err != nil {
		return fmt.Errorf("read the kernel's tables: %w", err)
	}
	tx := rules.Tx{Name: p.config.Rules.Table}
	p.freeOf(found, list, &tx)
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

// elementAt names an element of a set, in the family of an API server's address.
func elementAt(at netip.AddrPort, set rules.SetID, k rules.Key) rules.Thing {
	return rules.Thing{Kind: rules.ThingElement, Family: rules.FamilyOf(at.Addr()), Name: set.Name(), Key: k}
}

// addressAt names the element of a set of addresses.
func addressAt(at netip.AddrPort, kind rules.SetKind) rules.Thing {
	return elementAt(at, rules.SetID{Kind: kind}, rules.Key{Addr: at.Addr()})
}

// frontendsAt names all that has to do with an API server's address.
func frontendsAt(at netip.AddrPort) []rules.Thing {
	out := []rules.Thing{addressAt(at, rules.ClusterIPs), addressAt(at, rules.NodePortIPs)}
	outside := rules.FrontendAt(at, rules.TCP)
	for _, f := range []rules.Frontend{outside, outside.NodePort()} {
		for _, set := range rules.SetsOf(f) {
			out = append(out, elementAt(at, set, f.Key()))
		}
	}
	return out
}

// elementFinder finds the elements that there are, with their values.
type elementFinder map[rules.Thing]rules.Value

// Begin implements rules.Parts.
func (f elementFinder) Begin() { clear(f) }

// Part implements rules.Parts.
func (f elementFinder) Part(p rules.Part) {
	for id, keys := range p.Keys {
		for _, k := range keys {
			if v, ok := p.Table.Sets[id][k]; ok {
				f[rules.Thing{Kind: rules.ThingElement, Family: p.Family, Name: id.Name(), Key: k}] = v
			}
		}
	}
}

// freeOf adds the deletion of the frontends at API servers' addresses, but for ClusterIPs.
func (p *Proxier) freeOf(found elementFinder, list []netip.AddrPort, tx *rules.Tx) {
	free := func(at netip.AddrPort, f rules.Frontend) {
		for _, set := range rules.SetsOf(f) {
			thing := elementAt(at, set, f.Key())
			if v, ok := found[thing]; ok {
				delete(found, thing) // a NodePort may be that of several API servers
				tx.Add(rules.Op{Kind: rules.DeleteElements, Family: thing.Family, Set: set, Elements: []rules.Element{{Key: f.Key(), Value: v}}})
			}
		}
	}
	for _, at := range list {
		if _, ok := found[addressAt(at, rules.ClusterIPs)]; ok {
			continue
		}
		outside := rules.FrontendAt(at, rules.TCP)
		free(at, outside)
		if p.servesNodePorts(at, found) {
			free(at, outside.NodePort())
		}
	}
}

// servesNodePorts says whether NodePorts are, or may soon be, served at an API server's address.
func (p *Proxier) servesNodePorts(at netip.AddrPort, found elementFinder) bool {
	if _, ok := found[addressAt(at, rules.NodePortIPs)]; ok {
		return true
	}
	return p.config.Rules.AllNodePortIPs && p.config.Addresses != nil && slices.Contains(p.config.Addresses.Addrs(), at.Addr())
}
