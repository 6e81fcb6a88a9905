// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// notFreed leaves out the API servers whose addresses were freed before.
func (p *programmer) notFreed(servers []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(servers, func(at netip.AddrPort) bool { _, ok := p.freed[at]; return ok })
}

// free deletes from the kernel what an earlier run has left where this node reaches its API servers: without it the
// lists might never come in. own are the node's addresses. The outcome's written tells what was deleted.
func (p *programmer) free(list []netip.AddrPort, own []netip.Addr) (outcome, error) {
	p.begin()
	var things []rules.Thing
	for _, at := range list {
		things = append(things, frontendsAt(at)...)
	}
	found := elementFinder{}
	if err := p.kernel.Scan(p.config.Table, things, found); err != nil {
		return p.end(), fmt.Errorf("read the kernel's tables: %w", err)
	}
	p.out.written = rules.Tx{Name: p.config.Table}
	if !p.config.AllNodePortIPs {
		own = nil
	}
	found.free(list, own, &p.out.written)
	if err := p.apply(p.out.written); err != nil {
		return p.end(), fmt.Errorf("delete frontends at the API server's address: %w", err)
	}
	for _, at := range list {
		p.freed[at] = struct{}{}
	}
	return p.end(), nil
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

// free adds the deletion of the frontends at API servers' addresses, but for ClusterIPs. NodePorts may be served at own addresses, too,
// soon.
func (f elementFinder) free(list []netip.AddrPort, own []netip.Addr, tx *rules.Tx) {
	free := func(at netip.AddrPort, frontend rules.Frontend) {
		for _, set := range rules.SetsOf(frontend) {
			thing := elementAt(at, set, frontend.Key())
			if v, ok := f[thing]; ok {
				delete(f, thing) // a NodePort may be that of several API servers
				tx.Add(rules.Op{Kind: rules.DeleteElements, Family: thing.Family, Set: set, Elements: []rules.Element{{Key: frontend.Key(), Value: v}}})
			}
		}
	}
	for _, at := range list {
		if _, ok := f[addressAt(at, rules.ClusterIPs)]; ok {
			continue
		}
		outside := rules.FrontendAt(at, rules.TCP)
		free(at, outside)
		if _, served := f[addressAt(at, rules.NodePortIPs)]; served || slices.Contains(own, at.Addr()) {
			free(at, outside.NodePort())
		}
	}
}
