// SPDX-License-Identifier: Apache-2.0

package rules

// SetKind says what the keys and values of a set or map are. All that distinguishes the
// kinds is in their rows in setKinds.
type SetKind uint8

// The kinds, in the order in which their elements are added. A set comes after
// those that its elements rely on, so that a long transaction that is cut in two
// leaves nothing half working: endpoints before what sends packets to them, and
// the reject of unknown ports last. Elements are deleted in the reverse order.
const (
	Protocols           SetKind = iota // set of protocols that Services can have
	Affinity                           // map: client -> address and port; one for each policy of a sticky service port
	Stay                               // map: (id, address, port) -> address and port that clients may stay with; in shards
	Endpoints                          // map: (id, index) -> address and port; in shards
	Backends                           // map: (frontend, index) -> address and port
	Hairpin                            // set: (address, the same address) of endpoints on this node
	Sources                            // set of the ranges that may connect; one for each service port that has any
	Sticky                             // map: frontend -> verdict that remembers the client's endpoint
	StickyNodePorts                    // the same for NodePorts
	MasqueradeIPs                      // set of frontends whose connections are all masqueraded
	MasqueradeNodePorts                // the same for NodePorts
	Single                             // map: frontend -> the only endpoint's address and port
	ServiceIPs                         // map: frontend -> verdict
	SingleNodePorts                    // map: NodePort -> the only endpoint's address and port
	NodePorts                          // map: NodePort -> verdict
	NodePortIPs                        // set of the addresses that serve NodePorts
	ClusterIPs                         // set of all ClusterIPs
	ServiceCIDRs                       // set of the ranges of ClusterIPs
	Silent                             // map: (id, address, port) -> address and port of endpoints that do not answer
	Asked                              // set of clients' addresses, protocols and ports whose flows were asked twice; filled by packets
	Unanswered                         // map: client's address, protocol and port -> the frontend that it asked again; filled by packets
	Answering                          // set of endpoints that answered; filled by packets
	Tried                              // set of (id, hash of an endpoint) to which a connection went that tries it; filled by packets
	numSetKinds
)

// Naming says how many sets of a kind there are in a table, and how their names differ.
type Naming uint8

// The namings.
const (
	One     Naming = iota // one, which has the kind's name
	Sharded               // one for each shard: endpoints-2f
	PerPort               // one for each service port, or two: sources/default/web/http
)

// ValueKind says what the elements of a set or map lead to.
type ValueKind uint8

// The kinds of values.
const (
	NoValue    ValueKind = iota // it is a set
	Range                       // it is a set of ranges; the value is the last address of one
	ToEndpoint                  // an address and port
	JumpTo                      // a chain, which comes back
	GoTo                        // a chain, which does not
)

// owners says whose the elements of a set are.
type owners uint8

const (
	passedOn  owners = iota // one owner's; an element may pass to another owner
	exclusive               // one owner's, for ever
	shared                  // several owners may have the same element
	nobodys                 // they depend on no service
)

// setKind is the row of a kind of set.
type setKind struct {
	name  string // what the sets' names begin with
	note  string // what a set of the kind is for
	names Naming
	key   []KeyPart
	value ValueKind
	// nodePorts is the kind that has the same for NodePorts; 0: none has.
	nodePorts SetKind
	// owners says whose the elements are.
	owners owners
	// onDemand says that the set exists only while it has elements.
	onDemand bool
	// serves says that an element is a frontend that is served, at which connections can be counted.
	serves bool
	// forwards says that an element leads a new connection to an endpoint, as soon as its frontend leads to it.
	forwards bool
	// neutral says that no element decides which endpoint a connection goes to.
	neutral bool
	// dynamic says that packets add elements, which time out.
	dynamic bool
}

var setKinds = [numSetKinds]setKind{
	Protocols: {name: "protocols", note: "the protocols that Services can have",
		key: []KeyPart{KeyProtocol}, owners: nobodys},
	Affinity: {name: "affinity", note: "which clients stay with which endpoint; the kernel fills it",
		names: PerPort, key: []KeyPart{KeyAddr}, value: ToEndpoint, dynamic: true},
	Stay: {name: "stay", note: "session affinity: endpoints that clients may stay with: a chain's own number and an endpoint -> that endpoint",
		names: Sharded, key: []KeyPart{KeyID, KeyAddr, KeyPort}, value: ToEndpoint, owners: exclusive, onDemand: true},
	Endpoints: {name: "endpoints", note: "endpoints: a chain's own number and its counter -> an endpoint",
		names: Sharded, key: []KeyPart{KeyID, KeyCounter}, value: ToEndpoint, owners: exclusive, onDemand: true, forwards: true},
	Backends: {name: "backends", note: "endpoints of the schedulers " + sharing() + ": a frontend and a choice -> an endpoint",
		key: []KeyPart{KeyAddr, KeyProtocol, KeyPort, KeyChoice}, value: ToEndpoint, onDemand: true, forwards: true},
	Hairpin: {name: "hairpin", note: "endpoints on this node, masqueraded when they connect to themselves",
		key: []KeyPart{KeyAddr, KeySameAddr}, owners: shared, neutral: true},
	Sources: {name: "sources", note: "loadBalancerSourceRanges: who may connect to load balancer addresses",
		names: PerPort, key: []KeyPart{KeyAddr}, value: Range, owners: exclusive, onDemand: true, neutral: true},
	Sticky: {name: "sticky", note: "session affinity: frontends whose clients are remembered, and by which chain",
		key: frontendKey, value: JumpTo, nodePorts: StickyNodePorts, onDemand: true},
	StickyNodePorts: {name: "sticky-nodeports", note: "session affinity: frontends whose clients are remembered, and by which chain",
		key: nodePortKey, value: JumpTo, onDemand: true},
	MasqueradeIPs: {name: "masquerade-ips", note: "frontends whose connections are all masqueraded: answers must come back through this node",
		key: frontendKey, nodePorts: MasqueradeNodePorts, neutral: true},
	MasqueradeNodePorts: {name: "masquerade-nodeports", note: "frontends whose connections are all masqueraded: answers must come back through this node",
		key: nodePortKey, neutral: true},
	Single: {name: "single", note: "frontends with one endpoint",
		key: frontendKey, value: ToEndpoint, nodePorts: SingleNodePorts, serves: true, forwards: true},
	ServiceIPs: {name: "service-ips", note: "frontends, and the chain that decides about their connections",
		key: frontendKey, value: GoTo, nodePorts: NodePorts, serves: true},
	SingleNodePorts: {name: "single-nodeports", note: "NodePorts with one endpoint",
		key: nodePortKey, value: ToEndpoint, serves: true, forwards: true},
	NodePorts: {name: "service-nodeports", note: "NodePorts, and the chain that decides about their connections",
		key: nodePortKey, value: GoTo, serves: true},
	NodePortIPs: {name: "nodeport-ips", note: "addresses that serve NodePorts",
		key: []KeyPart{KeyAddr}, owners: nobodys},
	ClusterIPs: {name: "cluster-ips", note: "ClusterIPs: their other ports are refused",
		key: []KeyPart{KeyAddr}, owners: shared, neutral: true},
	ServiceCIDRs: {name: "service-cidrs", note: "ranges of ClusterIPs: those that no Service has are dropped",
		key: []KeyPart{KeyAddr}, value: Range, owners: nobodys, neutral: true},
	Silent: {name: "silent", note: "failover: endpoints that do not answer and get no new connections: a chain's own number and an endpoint -> that endpoint",
		key: []KeyPart{KeyID, KeyAddr, KeyPort}, value: ToEndpoint, owners: exclusive, onDemand: true},
	Asked: {name: "asked", note: "failover: UDP flows with a second packet and no answer; the kernel fills it",
		key: frontendKey, dynamic: true},
	Unanswered: {name: "unanswered", note: "failover: connections whose first packet was sent again, UDP flows with a third one: a client -> the frontend; the kernel fills it",
		key: frontendKey, value: ToEndpoint, dynamic: true},
	Answering: {name: "answering", note: "failover: endpoints that answered new connections; the kernel fills it",
		key: frontendKey, dynamic: true},
	Tried: {name: "tried", note: "failover: endpoints that do not answer and that a connection has just tried: a chain's own number and the endpoint's; the kernel fills it",
		key: []KeyPart{KeyID, KeyCounter}, dynamic: true},
}

// SetKinds lists all kinds, in order.
func SetKinds() []SetKind {
	out := make([]SetKind, numSetKinds)
	for i := range out {
		out[i] = SetKind(i)
	}
	return out
}

func (k SetKind) row() *setKind { return &setKinds[k] }

// Key returns the parts of the keys, which the caller leaves as they are.
func (k SetKind) Key() []KeyPart { return k.row().key }

// Value returns what the elements lead to.
func (k SetKind) Value() ValueKind { return k.row().value }

// IsMap says whether sets of this kind are maps.
func (k SetKind) IsMap() bool { return k.Value() >= ToEndpoint }

// word is what nft calls sets of this kind.
func (k SetKind) word() string {
	if k.IsMap() {
		return "map"
	}
	return "set"
}

// Interval says that the elements of such a set are ranges of addresses.
func (k SetKind) Interval() bool { return k.Value() == Range }

// Verdict returns how a map of this kind goes to chains: jump or goto; empty for
// other maps and sets.
func (k SetKind) Verdict() string {
	switch k.Value() {
	case JumpTo:
		return "jump"
	case GoTo:
		return "goto"
	}
	return ""
}

// Serves says that each element of such a map is a frontend that is served. Every frontend that is served is in one of
// them. They can count the connections to each: the chains that read them see the first packet of each connection only.
func (k SetKind) Serves() bool { return k.row().serves }

// Forwards says that the elements of such a map are the endpoints that new connections go to.
func (k SetKind) Forwards() bool { return k.row().forwards }

// Neutral says that no element of such a set decides which endpoint a connection goes to: it is about who may connect, or
// about the address that an endpoint sees.
func (k SetKind) Neutral() bool { return k.row().neutral }

// Dynamic says that the kernel adds the elements of such a map, as packets come by, and takes them away after a time.
func (k SetKind) Dynamic() bool { return k.row().dynamic }

// of returns the set of a frontend: that of the kind, or the one that is the same for NodePorts.
func (k SetKind) of(f Frontend) SetID {
	if f.IsNodePort() {
		k = k.row().nodePorts
	}
	return SetID{Kind: k}
}

// SetsOf returns the sets that may have an element for a frontend, whose key is Frontend.Key.
func SetsOf(f Frontend) []SetID {
	var out []SetID
	for k := range numSetKinds {
		if k.row().nodePorts != 0 {
			out = append(out, k.of(f))
		}
	}
	return out
}
