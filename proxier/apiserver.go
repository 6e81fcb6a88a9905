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
		return p.out, fmt.Errorf("read the kernel's tables: %w", err)
	}
	p.out.written = rules.Tx{Name: p.config.Table}
	p.freeOf(found, list, own, &p.out.written)
	if err := p.apply(p.out.written); err != nil {
		return p.out, fmt.Errorf("delete frontends at the API server's address: %w", err)
	}
	for _, at := range list {
		p.freed[at] = struct{}{}
	}
	return p.out, nil
}

// What leads connections to an address and port, and to a NodePort, elsewhere.
var (
	outsideKinds  = [...]rules.SetKind{rules.Sticky, rules.MasqueradeIPs, rules.Single, rules.ServiceIPs}
	nodePortKinds = [...]rules.SetKind{rules.StickyNodePorts, rules.MasqueradeNodePorts, rules.SingleNodePorts, rules.NodePorts}
)

// elementAt names an element of a set, in the family of an API server's address.
func elementAt(at netip.AddrPort, kind rules.SetKind, k rules.Key) rules.Thing {
	return rules.Thing{Kind: rules.ThingElement, Family: rules.FamilyOf(at.Addr()), Name: rules.SetID{Kind: kind}.Name(), Key: k}
}

func outsideKey(at netip.AddrPort) rules.Key {
	return rules.Key{Addr: at.Addr(), Protocol: rules.TCP, Port: at.Port()}
}

func nodePortKey(at netip.AddrPort) rules.Key {
	return rules.Key{Protocol: rules.TCP, Port: at.Port()}
}

// frontendsAt names all that has to do with an API server's address.
func frontendsAt(at netip.AddrPort) []rules.Thing {
	out := []rules.Thing{elementAt(at, rules.ClusterIPs, rules.Key{Addr: at.Addr()}), elementAt(at, rules.NodePortIPs, rules.Key{Addr: at.Addr()})}
	for _, kind := range outsideKinds {
		out = append(out, elementAt(at, kind, outsideKey(at)))
	}
	for _, kind := range nodePortKinds {
		out = append(out, elementAt(at, kind, nodePortKey(at)))
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
func (p *programmer) freeOf(found elementFinder, list []netip.AddrPort, own []netip.Addr, tx *rules.Tx) {
	free := func(at netip.AddrPort, kind rules.SetKind, k rules.Key) {
		thing := elementAt(at, kind, k)
		if v, ok := found[thing]; ok {
			delete(found, thing) // a NodePort may be that of several API servers
			tx.Add(rules.Op{Kind: rules.DeleteElements, Family: thing.Family, Set: rules.SetID{Kind: kind}, Elements: []rules.Element{{Key: k, Value: v}}})
		}
	}
	for _, at := range list {
		if _, ok := found[elementAt(at, rules.ClusterIPs, rules.Key{Addr: at.Addr()})]; ok {
			continue
		}
		for _, kind := range outsideKinds {
			free(at, kind, outsideKey(at))
		}
		if !p.servesNodePorts(at, own, found) {
			continue
		}
		for _, kind := range nodePortKinds {
			free(at, kind, nodePortKey(at))
		}
	}
}

// servesNodePorts says whether NodePorts are, or may soon be, served at an API server's address.
func (p *programmer) servesNodePorts(at netip.AddrPort, own []netip.Addr, found elementFinder) bool {
	if _, ok := found[elementAt(at, rules.NodePortIPs, rules.Key{Addr: at.Addr()})]; ok {
		return true
	}
	return p.config.AllNodePortIPs && slices.Contains(own, at.Addr())
}
