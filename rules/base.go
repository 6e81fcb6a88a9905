// SPDX-License-Identifier: Apache-2.0

package rules

import "net/netip"

// Names of the chains that every table has.
const (
	chainReject   = "no-endpoints"
	chainServices = "services"
)

// Priorities of the base chains, as kube-proxy's: the kernel's own for
// translation of destination and source.
const (
	priorityDstNAT = -100
	prioritySrcNAT = 100
)

// base returns what the table of a family holds whatever the services are.
func base(f Family, c Config) *Table {
	t := NewTable()
	for _, k := range []SetKind{Protocols, Hairpin, Single, ServiceIPs, ClusterIPs} {
		t.Sets[SetID{Kind: k}] = map[Key]Value{}
	}
	for _, p := range []Protocol{TCP, UDP, SCTP} {
		t.Sets[SetID{Kind: Protocols}][Key{Protocol: p}] = Value{}
	}
	for _, ch := range []Chain{
		{Name: chainReject, Rules: rejectRules()},
		{Name: chainServices, Rules: servicesRules(f, c)},
		{Name: "prerouting", Hook: &Hook{HookPrerouting, priorityDstNAT}, Rules: []Rule{{Jump{chainServices}}}},
		{Name: "output", Hook: &Hook{HookOutput, priorityDstNAT}, Rules: []Rule{{Jump{chainServices}}}},
		{Name: "postrouting", Hook: &Hook{HookPostrouting, prioritySrcNAT}, Rules: postroutingRules(c)},
	} {
		t.Chains[ch.Name] = ch
	}
	return t
}

// servicesRules decides where a new connection goes. Destinations that are no
// service's fall through.
func servicesRules(f Family, c Config) []Rule {
	known := MatchSet{NewFields(Field{Kind: L4Protocol}), SetID{Kind: Protocols}}
	toClusterIP := MatchSet{NewFields(Field{Kind: DestAddr}), SetID{Kind: ClusterIPs}}
	return append(markRules(f, c, toClusterIP),
		Rule{known, DNAT{f, frontendFields(), SetID{Kind: Single}}},
		Rule{Dispatch{frontendFields(), SetID{Kind: ServiceIPs}}},
		Rule{known, toClusterIP, Jump{chainReject}},
	)
}

// rejectRules tell the client at once that nobody answers. TCP gets a reset, which
// is never rate limited: TCP over IPv6 that is told by ICMP while it still sends its
// SYN, as in a pod on this node, takes no notice until it sends it again, a second later.
func rejectRules() []Rule {
	return []Rule{{MatchProtocol{TCP}, Reset{}}, {Reject{}}}
}

// markRules marks the connections to ClusterIPs that must be masqueraded: those
// from outside the pod network, whose answers would else not come back this way.
func markRules(f Family, c Config, toClusterIP MatchSet) []Rule {
	mark := SetMark{c.MasqueradeMark}
	if c.MasqueradeAll {
		return []Rule{{toClusterIP, mark}}
	}
	rule := Rule{toClusterIP}
	for _, p := range c.PodCIDRs {
		if FamilyOf(p.Addr()) != f {
			continue
		}
		if p.Bits() == 0 {
			return nil // everything is a pod
		}
		rule = append(rule, MatchSource{Prefix: p.Masked(), Not: true})
	}
	if len(rule) == 1 {
		return nil
	}
	return []Rule{append(rule, mark)}
}

// postroutingRules masquerades connections of an endpoint to itself, whose
// answers would else never pass through us, and those that are marked.
func postroutingRules(c Config) []Rule {
	self := MatchSet{NewFields(Field{Kind: SourceAddr}, Field{Kind: DestAddr}), SetID{Kind: Hairpin}}
	return []Rule{
		{MatchDNAT{}, self, Masquerade{}},
		{MatchMarkUnset{c.MasqueradeMark}, Return{}},
		{FlipMark{c.MasqueradeMark}, Masquerade{}},
	}
}

// Base returns the state for no services at all.
func Base(c Config) State {
	c = c.WithDefaults()
	s := State{Name: c.Table}
	for _, f := range Families {
		s.Tables[f] = base(f, c)
	}
	return s
}

// addrKey is the key of sets of addresses.
func addrKey(a netip.Addr) Key { return Key{Addr: a} }
