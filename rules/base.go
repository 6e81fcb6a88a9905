// SPDX-License-Identifier: Apache-2.0

package rules

import "net/netip"

// Priorities of the base chains, as kube-proxy's: the kernel's own for
// translation of destination and source.
const (
	priorityDstNAT = -100
	prioritySrcNAT = 100
)

// usage says what in a table depends on the services that there are.
type usage struct {
	sticky          bool // a service port has session affinity
	stickyNodePorts bool // and a NodePort
	failover        bool // a service port has failover
}

// base returns what the table of a family holds whatever the services are, but
// for their usage of it.
func base(f Family, c Config, n Node, u usage) *Table {
	t := NewTable()
	t.Counted = c.CountConnections
	t.Tenure.Wanted = c.Hold
	for k := range numSetKinds {
		if row := k.row(); !row.onDemand && !row.dynamic {
			t.Sets[SetID{Kind: k}] = map[Key]Value{}
		}
	}
	for _, m := range usageSets(u) {
		t.Affinity[m.Set], t.Sets[m.Set] = m, map[Key]Value{}
	}
	for _, p := range AllProtocols {
		t.Sets[SetID{Kind: Protocols}][Key{Protocol: p}] = Value{}
	}
	for _, a := range n.NodePortIPs {
		if FamilyOf(a) == f && !a.IsLoopback() {
			t.Sets[SetID{Kind: NodePortIPs}][addrKey(a)] = Value{}
		}
	}
	for _, e := range ranges(f, n.ServiceCIDRs) {
		t.Sets[SetID{Kind: ServiceCIDRs}][e.Key] = e.Value
	}
	for _, ch := range append(usageChains(c, u), []Chain{
		{Name: ChainNoEndpoints.Chain(), Rules: rejectRules(f)},
		{Name: ChainNoLocalEndpoints.Chain(), Rules: []Rule{{Drop{}}}},
		{Name: ChainNodePorts.Chain(), Rules: nodePortsRules(f, c)},
		{Name: ChainServices.Chain(), Rules: servicesRules(f, c, n)},
		{Name: ChainPrerouting.Chain(), Hook: &Hook{Number: HookPrerouting, Priority: priorityDstNAT}, Rules: []Rule{{Jump{ChainServices.Chain()}}}},
		{Name: ChainOutput.Chain(), Hook: &Hook{Number: HookOutput, Priority: priorityDstNAT}, Rules: []Rule{{Jump{ChainServices.Chain()}}}},
	}...) {
		t.Chains[ch.Name] = ch
	}
	return t
}

// servicesRules decides where a new connection goes. Destinations that are no
// service's fall through.
func servicesRules(f Family, c Config, n Node) []Rule {
	toClusterIP := MatchSet{Fields: NewFields(Field{Kind: DestAddr}), Set: SetID{Kind: ClusterIPs}}
	toNodePort := Rule{MatchSet{Fields: NewFields(Field{Kind: DestAddr}), Set: SetID{Kind: NodePortIPs}}, Jump{ChainNodePorts.Chain()}}
	if c.AllNodePortIPs {
		toNodePort = Rule{MatchLocalDest{}, Jump{ChainNodePorts.Chain()}}
	}
	return append(clusterIPMarkRules(f, c, n, toClusterIP),
		Rule{MatchSet{Fields: frontendFields(), Set: SetID{Kind: MasqueradeIPs}}, SetMark{c.MasqueradeMark}},
		Rule{knownProtocol(), DNAT{f, frontendFields(), SetID{Kind: Single}}},
		Rule{Dispatch{frontendFields(), SetID{Kind: ServiceIPs}}},
		toNodePort,
		Rule{toClusterIP, Jump{ChainNoEndpoints.Chain()}},
	)
}

// nodePortsRules decides about connections to the node's own addresses.
func nodePortsRules(f Family, c Config) []Rule {
	return []Rule{
		{MatchSet{Fields: nodePortFields(), Set: SetID{Kind: MasqueradeNodePorts}}, SetMark{c.MasqueradeMark}},
		{knownProtocol(), DNAT{f, nodePortFields(), SetID{Kind: SingleNodePorts}}},
		{Dispatch{nodePortFields(), SetID{Kind: NodePorts}}},
	}
}

// rejectRules tell the client at once that nobody answers. TCP gets a reset, which
// is never rate limited: TCP over IPv6 that is told by ICMP while it still sends its
// SYN, as in a pod on this node, takes no notice until it sends it again, a second later.
// SCTP gives up when its protocol is unreachable, but not for its port (RFC 9260, appendix C). For
// IPv6 that is ICMPv6's parameter problem, which nftables cannot send: there clients hear nothing
// that they heed.
func rejectRules(f Family) []Rule {
	out := []Rule{{MatchProtocol{TCP}, Reset{}}}
	if f == IPv4 {
		out = append(out, Rule{MatchProtocol{SCTP}, RejectProtocol{}})
	}
	return append(out, Rule{Reject{}})
}

// knownProtocol comes before translations of a port.
func knownProtocol() MatchSet {
	return MatchSet{Fields: NewFields(Field{Kind: L4Protocol}), Set: SetID{Kind: Protocols}}
}

// clusterIPMarkRules marks the connections to ClusterIPs that must be masqueraded:
// those from outside the pod network, whose answers would else not come back this
// way.
func clusterIPMarkRules(f Family, c Config, n Node, toClusterIP MatchSet) []Rule {
	mark := SetMark{c.MasqueradeMark}
	if c.MasqueradeAll {
		return []Rule{{toClusterIP, mark}}
	}
	notPod, known := fromElsewhere(f, c, n)
	if !known || notPod == nil {
		return nil
	}
	return []Rule{append(append(Rule{toClusterIP}, notPod...), mark)}
}

// fromElsewhere returns statements that match what comes from no pod: none if
// everything is a pod. It is false if nothing tells pods from others.
func fromElsewhere(f Family, c Config, n Node) (Rule, bool) {
	if c.PodInterface != "" {
		return Rule{MatchInterface{Name: c.PodInterface, Not: true}}, true
	}
	var rule Rule
	pods := podCIDRs(f, c, n)
	for _, p := range pods {
		if p.Bits() == 0 {
			return nil, true
		}
		rule = append(rule, MatchSource{Prefix: p, Not: true})
	}
	return rule, len(pods) > 0
}

// fromPods returns, for each way of being a pod, the statements that match it.
func fromPods(f Family, c Config, n Node) []Rule {
	if c.PodInterface != "" {
		return []Rule{{MatchInterface{Name: c.PodInterface}}}
	}
	var out []Rule
	for _, p := range podCIDRs(f, c, n) {
		if p.Bits() == 0 {
			return []Rule{{}}
		}
		out = append(out, Rule{MatchSource{Prefix: p}})
	}
	return out
}

// podCIDRs returns the ranges of pods in a family, each once.
func podCIDRs(f Family, c Config, n Node) []netip.Prefix {
	var out []netip.Prefix
	seen := map[netip.Prefix]bool{}
	for _, list := range [][]netip.Prefix{c.PodCIDRs, n.PodCIDRs} {
		for _, p := range list {
			if p = p.Masked(); FamilyOf(p.Addr()) == f && !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// postrouting drops what goes to a ClusterIP that nobody has translated (here, and
// not before translation, so that another proxy beside us can do so), remembers the
// endpoints of sticky clients, and masquerades connections of an endpoint to itself,
// whose answers would else never pass through us, and those that are marked. The mark
// goes no further: others may have a use for the bit.
func postrouting(c Config, u usage) Chain {
	self := MatchSet{Fields: NewFields(Field{Kind: SourceAddr}, Field{Kind: DestAddr}), Set: SetID{Kind: Hairpin}}
	unallocated := MatchSet{Fields: NewFields(Field{Kind: DestAddr}), Set: SetID{Kind: ServiceCIDRs}}
	return Chain{Name: ChainPostrouting.Chain(), Hook: &Hook{Number: HookPostrouting, Priority: prioritySrcNAT}, Rules: append(
		append([]Rule{{unallocated, Drop{}}}, stickyRules(u)...),
		Rule{MatchMarkUnset{c.MasqueradeMark}, MatchDNAT{}, self, Masquerade{}},
		Rule{MatchMarkUnset{c.MasqueradeMark}, Return{}},
		Rule{FlipMark{c.MasqueradeMark}, Masquerade{}},
	)}
}

// input remembers the endpoints that are on this node itself: packets to them do
// not come to postrouting.
func input(u usage) Chain {
	return Chain{Name: ChainInput.Chain(), Hook: &Hook{Number: HookInput, Priority: prioritySrcNAT}, Rules: stickyRules(u)}
}

// stickyRules goes to the chains that remember, by where the client connected to.
func stickyRules(u usage) []Rule {
	var out []Rule
	to := Field{Kind: OriginalAddr}
	service := NewFields(Field{Kind: L4Protocol}, Field{Kind: OriginalPort})
	if u.sticky {
		out = append(out, Rule{MatchDNAT{}, Dispatch{NewFields(append([]Field{to}, service.All()...)...), SetID{Kind: Sticky}}})
	}
	if u.stickyNodePorts {
		out = append(out, Rule{MatchDNAT{}, MatchSet{Fields: NewFields(to), Set: SetID{Kind: NodePortIPs}},
			Dispatch{service, SetID{Kind: StickyNodePorts}}})
	}
	return out
}

// usageChains returns the base chains that depend on usage.
func usageChains(c Config, u usage) []Chain {
	out := []Chain{postrouting(c, u)}
	if u.sticky || u.stickyNodePorts {
		out = append(out, input(u))
	}
	if u.failover {
		out = append(out, failoverChains()...)
	}
	return out
}

// addrKey is the key of sets of addresses.
func addrKey(a netip.Addr) Key { return Key{Addr: a} }
