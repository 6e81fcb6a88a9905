// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"hash/fnv"
	"net/netip"
	"slices"
)

// Failover has the kernel note which connections are not answered. For that it has chains of type filter, the only ones
// that see all packets. One rule ends for those of established connections, which are assured, with its first match:
//
//	chain failover-prerouting { type filter hook prerouting priority mangle
//		ct status ! assured ct status dnat iifname != "lo" meta l4proto @protocols jump failover
//	}
//	chain failover {
//		ct direction reply update @answering { ip saddr . meta l4proto . th sport timeout 1m }
//		ct state new meta l4proto udp goto failover-udp
//		ct state new add @unanswered { ip saddr . meta l4proto . th sport timeout 1s : ip daddr . th dport }
//	}
//	chain failover-udp {
//		ip saddr . meta l4proto . th sport @asked add @unanswered { ... }
//		ip saddr . meta l4proto . th sport != @asked add @asked { ip saddr . meta l4proto . th sport timeout 30s }
//	}
//
// These chains come before translation: the first packet of a connection is not translated there, and goes on. What is
// translated and new to connection tracking was sent again, before any answer. Its addresses are still those that the
// client uses. Packets on lo were translated on their way out already, and are seen there.
const (
	priorityMangle = -150

	// answeringSeconds is for how long an endpoint is known to have answered.
	answeringSeconds = 60
	// unansweredSeconds is shorter than any client's pause before it sends a packet again a second time.
	unansweredSeconds = 1
	// triedSeconds is for how long no other connection tries an endpoint: longer than a client waits before it sends its first
	// packet again, and shorter than the least time between two trials.
	triedSeconds = 10
	// askedSeconds is how long connection tracking remembers a UDP flow without an answer.
	askedSeconds = 30
	// failoverSize bounds each of the sets.
	failoverSize = 1 << 16
)

// DefaultEjectedShare is Ejection.Share where that is 0: half of the endpoints.
const DefaultEjectedShare = 50

// AnsweringSeconds is for how long an endpoint that answered is in a set of kind Answering.
const AnsweringSeconds = answeringSeconds

// Ejected is an endpoint that does not answer.
type Ejected struct {
	Addr netip.AddrPort
	// Trial says that one new connection may go there, to see whether it answers.
	Trial bool

	here bool // it may be on this node
}

// Ejection says which endpoints of a service port do not answer.
type Ejection struct {
	// Endpoints are in the order in which that was found out. They get no new connections as long as enough others do.
	Endpoints []Ejected
	// Share is which part of the endpoints of a traffic policy may be left out, in percent; 0: DefaultEjectedShare.
	Share int
}

// failoverChains returns the chains that note who answers and who does not.
func failoverChains() []Chain {
	from := NewFields(Field{Kind: SourceAddr}, Field{Kind: L4Protocol}, Field{Kind: SourcePort})
	asked := SetID{Kind: Asked}
	unanswered := Note{Fields: from, Set: SetID{Kind: Unanswered}, Seconds: unansweredSeconds}
	in := Rule{MatchUnassured{}, MatchDNAT{}, MatchInterface{Name: "lo", Not: true}, knownProtocol(), Jump{ChainFailover.Chain()}}
	out := Rule{MatchUnassured{}, MatchDNAT{}, knownProtocol(), Jump{ChainFailover.Chain()}}
	return []Chain{
		{Name: ChainFailoverUDP.Chain(), Rules: []Rule{
			{MatchSet{Fields: from, Set: asked}, unanswered},
			{MatchSet{Fields: from, Set: asked, Not: true}, Note{Fields: from, Set: asked, Seconds: askedSeconds}},
		}},
		{Name: ChainFailover.Chain(), Rules: []Rule{
			{MatchReply{}, Note{Fields: from, Set: SetID{Kind: Answering}, Seconds: answeringSeconds, Update: true}},
			{MatchNew{}, MatchProtocol{UDP}, Goto{ChainFailoverUDP.Chain()}},
			{MatchNew{}, unanswered},
		}},
		{Name: ChainFailoverIn.Chain(), Hook: &Hook{Number: HookPrerouting, Priority: priorityMangle, Filter: true}, Rules: []Rule{in}},
		{Name: ChainFailoverOut.Chain(), Hook: &Hook{Number: HookOutput, Priority: priorityMangle, Filter: true}, Rules: []Rule{out}},
	}
}

// usageSets returns the sets that packets fill and that depend on usage.
func usageSets(u usage) []AffinityMap {
	if !u.failover {
		return nil
	}
	var out []AffinityMap
	for k := range numSetKinds {
		if r := k.row(); r.dynamic && r.names == One {
			out = append(out, AffinityMap{Set: SetID{Kind: k}, Size: failoverSize})
		}
	}
	return out
}

// MostEjected returns how many of so many endpoints may be left out, where a share of them may, in percent: never the last
// one.
func MostEjected(endpoints, share int) int {
	if share <= 0 {
		share = DefaultEjectedShare
	}
	return max(0, min(endpoints*share/100, endpoints-1))
}

// withoutEjected leaves those endpoints out that do not answer, as many as may be, and returns them. The longest known
// go first.
func (sp *ServicePort) withoutEjected(endpoints []Endpoint) (left []Endpoint, out []Ejected) {
	if len(sp.Ejection.Endpoints) == 0 {
		return endpoints, nil
	}
	most := MostEjected(len(endpoints), sp.Ejection.Share)
	for _, e := range sp.Ejection.Endpoints {
		at := slices.IndexFunc(endpoints, func(x Endpoint) bool { return x.Addr == e.Addr })
		if len(out) < most && at >= 0 {
			e.here = endpoints[at].Local || endpoints[at].NodeUnknown
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		return endpoints, nil
	}
	return slices.DeleteFunc(slices.Clone(endpoints), func(x Endpoint) bool { return contains(out, x.Addr) }), out
}

// watch notes endpoints of a policy: with failover, all that are not waiting.
func (u *Usable) watch(sp *ServicePort, list []Endpoint) {
	if !sp.Failover {
		return
	}
	waits := waiting(list)
	for i := range list {
		if waits == nil || !waits(&list[i]) {
			u.Watched = append(u.Watched, list[i].Addr)
		}
	}
	slices.SortFunc(u.Watched, netip.AddrPort.Compare)
	u.Watched = slices.Compact(u.Watched)
}

func contains(list []Ejected, a netip.AddrPort) bool {
	return slices.ContainsFunc(list, func(e Ejected) bool { return e.Addr == a })
}

// failover notes which endpoints of the policies are ejected.
func (b *objectsBuilder) failover() {
	for _, p := range []*policy{&b.cluster, &b.local} {
		b.out.Failover = b.out.Failover || b.sp.Failover && len(p.endpoints)+len(p.ejected) > 1
		id := identify(b.chain(p.role)).id
		for _, e := range p.ejected {
			b.add(SetID{Kind: Silent}, Element{Key{ID: id, Addr: e.Addr.Addr(), Port: e.Addr.Port()}, Value{To: e.Addr}})
		}
	}
}

// tries says whether an endpoint of the policy is tried.
func (p *policy) tries() bool {
	return slices.ContainsFunc(p.ejected, func(e Ejected) bool { return e.Trial })
}

// away returns the endpoints that are ejected.
func (p *policy) away() []Endpoint {
	out := make([]Endpoint, len(p.ejected))
	for i := range p.ejected {
		out[i] = Endpoint{Addr: p.ejected[i].Addr, Local: p.ejected[i].here}
	}
	return out
}

// trials returns the rules that send one connection to each endpoint that is tried, and adds what they look up. They come
// where clients that are remembered have gone already. A limit forgets what it has let pass when its chain is written anew,
// as it is at each change of the Service: the set does not. The limit is for packets that come at the same time.
func (b *objectsBuilder) trials(p *policy, id identity) (out []Rule) {
	next := uint32(p.choices()) //nolint:gosec // slots are limited
	for _, e := range p.ejected {
		if !e.Trial || int(next) >= MaxEndpoints {
			continue
		}
		at := id.offset + next
		b.add(id.set, Element{Key{ID: id.id, Index: at}, Value{To: e.Addr}})
		fields := NewFields(Field{Kind: Numgen, Mod: 1, Offset: id.id}, Field{Kind: Numgen, Mod: 1, Offset: at})
		tried := NewFields(Field{Kind: Numgen, Mod: 1, Offset: id.id}, Field{Kind: Numgen, Mod: 1, Offset: number(e.Addr)})
		set := SetID{Kind: Tried}
		out = append(out, Rule{MatchSet{Fields: tried, Set: set, Not: true}, Once{}, Note{Fields: tried, Set: set, Seconds: triedSeconds},
			MatchProtocol{b.sp.Protocol}, DNAT{b.sp.Family, fields, id.set}})
		next++
	}
	return out
}

// number is an endpoint's own, as long as the hash of its address and port is no other one's. Two that have the same are tried
// one after the other.
func number(e netip.AddrPort) uint32 {
	h := fnv.New32a()
	b, _ := e.MarshalBinary() // it has no error
	_, _ = h.Write(b)
	return h.Sum32()
}

// EjectedOf returns the endpoints of a service port that a table has as ejected, sorted by address.
func (t *Table) EjectedOf(n ServicePortName) (out []Ejected) {
	for _, role := range []Role{ChainService, ChainLocal} {
		name := ChainID{role, n}.Name()
		id := identify(name)
		for k, v := range t.Sets[SetID{Kind: Silent}] {
			if k.ID == id.id && !contains(out, v.To) {
				out = append(out, Ejected{Addr: v.To, Trial: t.tries(name, id, v.To)})
			}
		}
	}
	slices.SortFunc(out, func(a, b Ejected) int { return a.Addr.Compare(b.Addr) })
	return out
}

// tries says whether a chain sends one connection to an endpoint.
func (t *Table) tries(chain string, id identity, to netip.AddrPort) bool {
	for _, r := range t.Chains[chain].Rules {
		if !slices.Contains(r, Statement(Once{})) {
			continue
		}
		for _, s := range r {
			if d, ok := s.(DNAT); ok && t.Sets[id.set][Key{ID: id.id, Index: d.Fields[1].Offset}].To == to {
				return true
			}
		}
	}
	return false
}

// AffinityMaps returns the maps that may have the clients of a service port with session affinity.
func AffinityMaps(n ServicePortName) []SetID {
	return []SetID{portSet(Affinity, n, false), portSet(Affinity, n, true)}
}
