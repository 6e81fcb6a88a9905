// SPDX-License-Identifier: Apache-2.0

package rules

import "net/netip"

// remembered returns the rules that send a client to the endpoint that it is remembered with. They find it
// among those that there are, which change in the same transaction as all else: a client whose endpoint is
// gone is forgotten by its own next connection, and then remembered anew.
func (b *objectsBuilder) remembered(p *policy, id identity) []Rule {
	for _, e := range p.endpoints {
		b.add(id.stay(), Element{Key{ID: id.id, Addr: e.Addr.Addr(), Port: e.Addr.Port()}, Value{To: e.Addr}})
	}
	clients := portSet(Affinity, b.sp.Name, p.local)
	return []Rule{
		{MatchProtocol{b.sp.Protocol}, DNATRemembered{Family: b.sp.Family, Clients: clients, ID: id.id, Map: id.stay()}},
		{RestoreDest{}, Forget{clients}},
	}
}

// Stays says whether a client that a map of clients has with an endpoint still goes there.
func (t *Table) Stays(clients SetID, to netip.AddrPort) bool {
	of, local := clients.ServicePort()
	chain := ChainID{ChainService, of}
	if local {
		chain.Role = ChainLocal
	}
	for _, r := range t.Chains[chain.Name()].Rules {
		for _, s := range r {
			if s, ok := s.(DNATRemembered); ok {
				_, stays := t.Sets[s.Map][s.Key(to)]
				return stays
			}
		}
	}
	return true // versions before that rule deleted clients of endpoints that were gone
}
