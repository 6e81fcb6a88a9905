// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
)

// Build returns the objects of a service port, from it, its endpoints, and what
// holds for all services on the node.
func Build(sp ServicePort, endpoints []Endpoint, c Config, n Node) Objects {
	if sp.Port == 0 {
		return Objects{}
	}
	return BuildUsable(sp, SelectEndpoints(&sp, endpoints, &n), c, n)
}

// BuildUsable is Build for who has selected the endpoints already. The service port has a Port.
func BuildUsable(sp ServicePort, u Usable, c Config, n Node) Objects {
	b := &objectsBuilder{sp: &sp, config: &c, node: &n, anywhere: u.Anywhere, sets: map[SetID][]Element{}, limit: MaxEndpoints}
	if sp.EndpointLimit > 0 {
		b.limit = min(sp.EndpointLimit, MaxEndpoints)
	}
	b.cluster = policy{role: ChainService, remember: ChainRemember, endpoints: u.Cluster[:min(len(u.Cluster), b.limit)]}
	b.local = policy{role: ChainLocal, remember: ChainRememberLocal, local: true, endpoints: u.Local[:min(len(u.Local), b.limit)]}
	b.cluster.ejected, b.local.ejected = u.ClusterEjected, u.LocalEjected
	b.cluster.slots, b.local.slots = layOut(&sp, b.cluster.endpoints, &c), layOut(&sp, b.local.endpoints, &c)
	b.out.LeftOut = max(len(u.Cluster), len(u.Local), b.limit) - b.limit
	b.clusterIP()
	b.external()
	b.add(SetID{Kind: Hairpin}, hairpin(b.cluster.endpoints, b.local.endpoints, b.cluster.away(), b.local.away())...)
	b.failover()
	return b.objects()
}

// objectsBuilder gathers the objects of one service port.
type objectsBuilder struct {
	sp             *ServicePort
	config         *Config
	node           *Node
	cluster, local policy
	anywhere       bool // some endpoint exists, if not for this node
	limit          int  // of endpoints, and of elements that copy them

	out  Objects
	sets map[SetID][]Element
}

// policy is the endpoints of a traffic policy, and the chain that leads to them
// once somebody needed it.
type policy struct {
	role      Role // of the chain
	remember  Role // of the chain that remembers clients
	local     bool // it is the policy Local
	endpoints []Endpoint
	ejected   []Ejected // they get no new connections but for trials
	slots     slots
	chain     string
}

func (b *objectsBuilder) add(set SetID, elements ...Element) {
	if len(elements) > 0 {
		b.sets[set] = append(b.sets[set], elements...)
	}
}

// objects returns all, in order.
func (b *objectsBuilder) objects() Objects {
	for id, elements := range b.sets {
		if len(elements) > 1 {
			slices.SortFunc(elements, func(x, y Element) int { return x.Key.compare(y.Key) })
		}
		b.out.Sets = append(b.out.Sets, SetElements{id, elements})
	}
	slices.SortFunc(b.out.Sets, func(x, y SetElements) int { return x.Set.compare(y.Set) })
	return b.out
}

// clusterIP serves the ClusterIP.
func (b *objectsBuilder) clusterIP() {
	if !b.sp.ClusterIP.IsValid() {
		return
	}
	p := &b.cluster
	if b.sp.InternalLocal {
		p = &b.local
	}
	at := b.at(b.sp.ClusterIP)
	b.frontend(at, p)
	b.remember(at, p)
	b.add(SetID{Kind: ClusterIPs}, Element{Key: addrKey(b.sp.ClusterIP)})
}

// external serves the NodePort and the addresses outside the cluster.
func (b *objectsBuilder) external() {
	if b.sp.NodePort != 0 {
		b.externalFrontend(NodePort(b.sp.Family, b.sp.Protocol, b.sp.NodePort))
	}
	if len(b.sp.LoadBalancerIPs)+len(b.sp.ExternalIPs) == 0 {
		return
	}
	allowed := b.sourceRanges()
	seen := map[netip.Addr]bool{b.sp.ClusterIP: true} // an address may be several things to a Service: the first one counts
	for i, a := range slices.Concat(b.sp.LoadBalancerIPs, b.sp.ExternalIPs) {
		switch {
		case seen[a]:
		case len(allowed) > 0 && i < len(b.sp.LoadBalancerIPs):
			b.firewalled(b.at(a), allowed)
		default:
			b.externalFrontend(b.at(a))
		}
		seen[a] = true
	}
}

// externalFrontend serves an address outside the cluster, or a NodePort. Under the
// policy Cluster its connections are masqueraded, because they may go to another
// node, whose answers would not come back this way.
func (b *objectsBuilder) externalFrontend(at Frontend) {
	if b.sp.ExternalLocal && b.anywhere {
		b.dispatch(at, b.externalChain())
		b.rememberExternal(at)
		return
	}
	if len(b.cluster.endpoints) > 0 {
		b.addFrontend(MasqueradeIPs, at, Value{})
	}
	b.frontend(at, &b.cluster)
	b.remember(at, &b.cluster)
}

// firewalled serves a load balancer's address that only some may connect to.
func (b *objectsBuilder) firewalled(at Frontend, allowed []Element) {
	name := b.chain(ChainFirewall)
	sources := portSet(Sources, b.sp.Name, false)
	if _, ok := b.sets[sources]; !ok {
		b.add(sources, allowed...)
		source := MatchSet{Fields: NewFields(Field{Kind: SourceAddr}), Set: sources, Not: !b.sp.DenySources}
		rules := []Rule{{source, Drop{}}}
		switch {
		case b.sp.ExternalLocal && b.anywhere:
			rules = append(rules, Rule{Goto{b.externalChain()}})
		case len(b.cluster.endpoints) > 0:
			rules = append(rules, Rule{SetMark{b.config.MasqueradeMark}}, Rule{Goto{b.policyChain(&b.cluster)}})
		default:
			rules = append(rules, Rule{Goto{b.policyChain(&b.cluster)}})
		}
		b.out.Chains = append(b.out.Chains, Chain{Name: name, Rules: rules})
	}
	b.dispatch(at, name)
	if b.sp.ExternalLocal {
		b.rememberExternal(at)
		return
	}
	b.remember(at, &b.cluster)
}

// sourceRanges returns the ranges that may connect to load balancers' addresses, or those that may not;
// none if all may. A load balancer that hands packets on unchanged makes the node's
// own packets to it come back with its address as their source: it is let in if the
// node is.
func (b *objectsBuilder) sourceRanges() []Element {
	list := slices.Clone(b.sp.SourceRanges)
	if b.sp.DenySources {
		return ranges(b.sp.Family, list)
	}
	if len(b.sp.LoadBalancerIPs) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		return nil
	}
	self := b.node.IPs[b.sp.Family]
	if slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(self) }) {
		for _, a := range b.sp.LoadBalancerIPs {
			list = append(list, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return ranges(b.sp.Family, list)
}

// externalChain adds, once, the chain for the policy Local, and returns its name.
func (b *objectsBuilder) externalChain() string {
	return b.decide(ChainExternal, b.policyChain(&b.cluster), b.policyChain(&b.local), SetMark{b.config.MasqueradeMark})
}

// decide adds, once, a chain that sends connections from pods and from the node
// itself to one chain, as if they had gone out of the cluster and come back in at
// any node, and others to another chain. Those from the node carry out extra
// statements.
func (b *objectsBuilder) decide(role Role, inside, outside string, extra ...Statement) string {
	name := b.chain(role)
	if slices.ContainsFunc(b.out.Chains, func(c Chain) bool { return c.Name == name }) {
		return name
	}
	var list []Rule
	for _, pod := range fromPods(b.sp.Family, *b.config, *b.node) {
		list = append(list, append(slices.Clone(pod), Goto{inside}))
	}
	list = append(list,
		append(append(Rule{MatchLocalSource{}}, extra...), Goto{inside}),
		Rule{Goto{outside}})
	b.out.Chains = append(b.out.Chains, Chain{Name: name, Rules: list})
	return name
}

// frontend sends a frontend to the endpoints of a policy in the cheapest way.
func (b *objectsBuilder) frontend(at Frontend, p *policy) {
	n := len(p.endpoints)
	switch {
	case n == 1 && b.sp.Affinity == 0 && !p.tries():
		b.addFrontend(Single, at, Value{To: p.endpoints[0].Addr})
	case n > 1 && b.sp.Affinity == 0 && !p.tries() && schedulers[b.sp.Scheduler].shares && !at.IsNodePort() && b.mayCopy(p):
		b.dispatch(at, b.shared(at, p))
	default:
		b.dispatch(at, b.policyChain(p))
	}
}

func (b *objectsBuilder) dispatch(at Frontend, chain string) {
	b.addFrontend(ServiceIPs, at, Value{Goto: chain})
}

// addFrontend adds an element for a frontend, to the set of the kind or the one that is the same for NodePorts.
func (b *objectsBuilder) addFrontend(kind SetKind, at Frontend, v Value) {
	b.add(kind.of(at), Element{at.Key(), v})
}

// at returns the frontend at one of the service port's own addresses.
func (b *objectsBuilder) at(a netip.Addr) Frontend { return Frontend{a, b.sp.Protocol, b.sp.Port} }

// mayCopy says whether each frontend may have copies of a policy's endpoints.
func (b *objectsBuilder) mayCopy(p *policy) bool {
	limit := b.limit
	if p.slots != nil && b.sp.SlotLimit > 0 {
		limit = min(limit, b.sp.SlotLimit)
	}
	return (1+len(b.sp.LoadBalancerIPs)+len(b.sp.ExternalIPs))*p.choices() <= limit
}

// shared adds the endpoints under a frontend's own key, and returns the name of
// the chain that all frontends with as many endpoints share. It has no counter, so
// it is not for round robin.
func (b *objectsBuilder) shared(at Frontend, p *policy) string {
	elements := make([]Element, p.choices())
	for i, to := range p.targets {
		elements[i] = Element{at.Key(), Value{To: to}}
		elements[i].Key.Index = uint32(i) //nolint:gosec // slots are limited
	}
	b.add(SetID{Kind: Backends}, elements...)
	name := sharedChain(b.sp.Scheduler, len(elements)).Name()
	if !slices.ContainsFunc(b.out.Shared, func(c Chain) bool { return c.Name == name }) {
		fields := NewFields(append(frontendParts(), b.choice(uint32(len(elements)), 0))...) //nolint:gosec // slots are limited
		b.out.Shared = append(b.out.Shared, Chain{Name: name, Rules: []Rule{
			{knownProtocol(), DNAT{b.sp.Family, fields, SetID{Kind: Backends}}},
		}})
	}
	return name
}

// policyChain adds, once, the chain that spreads connections over the endpoints of
// a policy, and returns its name.
func (b *objectsBuilder) policyChain(p *policy) string {
	switch {
	case p.chain != "":
		return p.chain
	case len(p.endpoints) > 0:
		p.chain = b.balance(p)
	case b.anywhere:
		p.chain = ChainNoLocalEndpoints.Chain()
	default:
		p.chain = ChainNoEndpoints.Chain()
	}
	return p.chain
}

func (b *objectsBuilder) balance(p *policy) string {
	name := b.chain(p.role)
	id := identify(name)
	elements := make([]Element, p.choices())
	for i, to := range p.targets {
		elements[i] = Element{Key{ID: id.id, Index: id.offset + uint32(i)}, Value{To: to}} //nolint:gosec // slots are limited
	}
	b.add(id.set, elements...)
	var list []Rule
	if b.sp.Affinity > 0 {
		list = b.remembered(p, id)
	}
	list = append(list, b.trials(p, id)...)
	fields := NewFields(Field{Kind: Numgen, Mod: 1, Offset: id.id}, b.choice(uint32(len(elements)), id.offset)) //nolint:gosec // slots are limited
	list = append(list, Rule{MatchProtocol{b.sp.Protocol}, DNAT{b.sp.Family, fields, id.set}})
	b.out.Chains = append(b.out.Chains, Chain{Name: name, Rules: list})
	if b.sp.Affinity > 0 {
		b.affinity(p)
	}
	return name
}

// affinity adds the map of a policy's clients and the chain that fills it.
func (b *objectsBuilder) affinity(p *policy) {
	set := portSet(Affinity, b.sp.Name, p.local)
	b.out.Affinity = append(b.out.Affinity, AffinityMap{Set: set, Size: b.config.AffinitySize})
	b.out.Chains = append(b.out.Chains, Chain{Name: b.chain(p.remember), Rules: []Rule{
		{Remember{Set: set, Seconds: b.sp.Affinity}},
	}})
}

// remember makes connections to a frontend fill the map of a policy's clients.
func (b *objectsBuilder) remember(at Frontend, p *policy) {
	if b.sp.Affinity > 0 && len(p.endpoints) > 0 {
		b.addFrontend(Sticky, at, Value{Goto: b.chain(p.remember)})
	}
}

// rememberExternal does so under the policy Local, where it depends on the client
// which map that is.
func (b *objectsBuilder) rememberExternal(at Frontend) {
	if b.sp.Affinity == 0 || len(b.cluster.endpoints) == 0 {
		return
	}
	if len(b.local.endpoints) == 0 {
		b.remember(at, &b.cluster)
		return
	}
	chain := b.decide(ChainRememberExternal, b.chain(ChainRemember), b.chain(ChainRememberLocal))
	b.addFrontend(Sticky, at, Value{Goto: chain})
}

// chain returns the name of one of the service port's chains.
func (b *objectsBuilder) chain(r Role) string { return ChainID{r, b.sp.Name}.Name() }

// hairpin returns the elements for endpoints that may reach themselves through
// this node: those on it. Others' connections to themselves are masqueraded by
// their own node.
func hairpin(lists ...[]Endpoint) []Element {
	var out []Element
	for _, list := range lists {
		for _, e := range list {
			if e.Local || e.NodeUnknown {
				out = append(out, Element{Key: addrKey(e.Addr.Addr())})
			}
		}
	}
	slices.SortFunc(out, func(x, y Element) int { return x.Key.compare(y.Key) })
	return slices.Compact(out)
}

// Frontends returns the frontends that the objects serve in a family.
func (o Objects) Frontends(f Family) []Frontend {
	var out []Frontend
	for _, se := range o.Sets {
		if se.Set.Kind.Serves() {
			for _, e := range se.Elements {
				out = append(out, e.Key.Frontend(f))
			}
		}
	}
	return out
}

// Backends returns the endpoints that the objects send connections to, sorted.
func (o Objects) Backends() []netip.AddrPort {
	var out []netip.AddrPort
	for _, se := range o.Sets {
		if se.Set.Kind.Forwards() {
			for _, e := range se.Elements {
				out = append(out, e.To)
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
