// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
)

// MaxEndpoints is how many endpoints a service port can have; the rest is left
// out. The index shares 32 bits with a part of the owner's identity.
const MaxEndpoints = 1 << 16

// Build returns the objects of a service port, from it and its endpoints alone.
func Build(sp ServicePort, endpoints []Endpoint) Objects {
	if !sp.ClusterIP.IsValid() || sp.Port == 0 {
		return Objects{}
	}
	usable := Usable(endpoints)
	if len(usable) > MaxEndpoints {
		usable = usable[:MaxEndpoints]
	}
	var o Objects
	frontend := Key{Addr: sp.ClusterIP, Protocol: sp.Protocol, Port: sp.Port}
	switch len(usable) {
	case 0:
		o.add(SetID{Kind: ServiceIPs}, Element{frontend, Value{Goto: chainReject}})
	case 1:
		o.add(SetID{Kind: Single}, Element{frontend, Value{To: usable[0].Addr}})
	default:
		chain := balance(sp, usable, &o)
		o.add(SetID{Kind: ServiceIPs}, Element{frontend, Value{Goto: chain}})
	}
	o.add(SetID{Kind: Hairpin}, hairpin(usable)...)
	o.add(SetID{Kind: ClusterIPs}, Element{Key: addrKey(sp.ClusterIP)})
	slices.SortFunc(o.Sets, func(a, b SetElements) int { return a.Set.compare(b.Set) })
	return o
}

// balance adds the chain that spreads connections over the endpoints, and their
// elements; it returns the chain's name.
func balance(sp ServicePort, usable []Endpoint, o *Objects) string {
	id := identify(sp.Name)
	elements := make([]Element, len(usable))
	for i, e := range usable {
		elements[i] = Element{Key{ID: id.id, Index: id.offset + uint32(i)}, Value{To: e.Addr}}
	}
	o.add(id.set, elements...)
	chain := ChainName(sp.Name)
	fields := NewFields(
		Field{Kind: Numgen, Mod: 1, Offset: id.id},
		Field{Kind: Numgen, Mod: uint32(len(usable)), Offset: id.offset})
	o.Chains = append(o.Chains, Chain{Name: chain, Rules: []Rule{
		{MatchProtocol{sp.Protocol}, DNAT{FamilyOf(sp.ClusterIP), fields, id.set}},
	}})
	return chain
}

// ChainName returns the name of a service port's chain.
func ChainName(n ServicePortName) string {
	name := "service/" + n.Namespace + "/" + n.Name
	if n.Port != "" {
		name += "/" + n.Port
	}
	return name
}

// identity is what tells a service port's endpoints from all others': 8 bits
// that choose the map, 32 bits of the key's first part, and 16 bits above the
// index in its second part. Two of 45,000 service ports share these 56 bits once
// in 70 million clusters; the kernel then refuses the second one's elements.
type identity struct {
	set    SetID
	id     uint32
	offset uint32
}

func identify(n ServicePortName) identity {
	h := sha256.Sum256([]byte(n.Namespace + "/" + n.Name + "/" + n.Port))
	return identity{
		set:    SetID{Kind: Endpoints, Shard: h[0]},
		id:     binary.BigEndian.Uint32(h[1:]),
		offset: uint32(binary.BigEndian.Uint16(h[5:])) << 16,
	}
}

// hairpin returns the elements for endpoints that may reach themselves through
// this node: those on it. Others' connections to themselves are masqueraded by
// their own node.
func hairpin(usable []Endpoint) []Element {
	var out []Element
	var last netip.Addr
	for _, e := range usable {
		if a := e.Addr.Addr(); e.Local && a != last {
			out = append(out, Element{Key: addrKey(a)})
			last = a
		}
	}
	return out
}

func (o *Objects) add(set SetID, elements ...Element) {
	if len(elements) > 0 {
		o.Sets = append(o.Sets, SetElements{set, elements})
	}
}

// Frontends returns the addresses, protocols and ports that the objects serve.
func (o Objects) Frontends() []Key {
	var out []Key
	for _, se := range o.Sets {
		if se.Set.Kind == Single || se.Set.Kind == ServiceIPs {
			for _, e := range se.Elements {
				out = append(out, e.Key)
			}
		}
	}
	return out
}

// Backends returns the endpoints that the objects send connections to.
func (o Objects) Backends() []netip.AddrPort {
	var out []netip.AddrPort
	for _, se := range o.Sets {
		for _, e := range se.Elements {
			if e.To.IsValid() {
				out = append(out, e.To)
			}
		}
	}
	return out
}
