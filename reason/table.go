// SPDX-License-Identifier: Apache-2.0

package reason

// Why connections end as they do. What is put into the text is in brackets.
const (
	none Code = iota

	NoEndpoint           // refused
	OnlyEndpointUnusable // refused
	EndpointsUnusable    // refused [how many there are]
	NoSuchPort           // refused [number, protocol]
	NoLocalEndpoint      // dropped
	NotInSourceRanges    // dropped [client, ranges]
	InDeniedRanges       // dropped [client, ranges]
	BySourceRanges       // dropped, for one of the two
	NoSuchClusterIP      // dropped
	NotServed            // left alone
	UnknownChain         // dropped [chain]

	MasqueradeAll
	MasqueradeOutside
	MasqueradeNode
	MasqueradeExternal
	MasqueradeHairpin
	ExternalFromInside
	Remembered   // [client, endpoint]
	EndpointGone // [client]
	NoNodePortAddress

	// Why an endpoint gets no new connections.
	NotReady
	TerminatingStandby
	Terminating
	TerminatingReplaced
	MeantForNode // [nodes of the hints, this node]
	MeantForZone // [zones of the hints, this zone]
	NamedTwice
	NotOnThisNode
	DoesNotAnswer
	DoesNotAnswerTrial
	WeightZero
	Settling

	// Why a Service port has no endpoint.
	NoSlice       // refused
	NoSliceFamily // refused [family]
	EmptySlices   // refused
	SliceNoPort   // refused
	OtherPorts    // refused [ports of the EndpointSlices, port of the Service]

	// Why a Service port does without a frontend.
	OlderService // [Service port that has it]
	BetterClaim  // [what it is to the Service port, the Service port]; in a foreign note without the last
	ReachAPIServer
	HealthPortAPIServer // [number]

	// Why a Service, or its load balancer, is not served at all.
	ExternalName
	Headless
	NoClusterIPYet
	LoadBalancerName  // [name]
	LoadBalancerProxy // [address, ipMode]
	OtherNodes        // [selector]

	// Why a part of a Service is not used as it is asked for.
	BadAddress       // [field, text]
	SpecialAddress   // [field, text, what it is]
	MappedAddress    // [field, text]
	UnknownScheduler // [annotation, what is wrong, the scheduler that is used]
	UnknownFailover  // [annotation, text, what is used]
	BadProtocol      // [name, protocol]
	BadPort          // [name, number]
	BadNodePort      // [name, number]
	PortTwice        // [name]
	NoHealthPort     // [number]
	BadSourceRange   // [text]
	BadDeniedRange   // [text]
	BadAnnotation    // [annotation, what is wrong, what is used]
	UselessWeight    // [scheduler]
	MoreFaults       // [how many]

	// What is left out because a Service asks for more than one Service can have.
	TooManyPorts     // [how many, most]
	TooManyFrontends // [family, addresses, ports, most, addresses that are served]
	TooManyRanges    // [family, ranges, ports, most, ranges that are let in]
	TooManySets      // [ports, most]
	TooManyEndpoints // [how many more, most]

	// Why a part of an EndpointSlice is not used.
	BadSlicePort // [name, protocol, number]
	NoAddress
	BadEndpointAddress     // [text]
	SpecialEndpointAddress // [address, what it is]
	OtherFamily            // [address]
	BadWeight              // [annotation, what is wrong]

	// Why what could be served is not.
	KernelRefused // [Service port, error]
	PortInUse     // [error]
	Silent        // [endpoint, node, time]
	MoreConflicts // [how many]
)

// Reasons of Events, in CamelCase.
const (
	EventConflict       = "FrontendConflict"     // another Service, or the API server, has the address, protocol and port
	EventInvalidService = "InvalidService"       // a part of the Service cannot be used
	EventInvalidSlice   = "InvalidEndpointSlice" // a part of the EndpointSlice cannot be used
	EventRefused        = "KernelRefused"        // the kernel does not take the rules
	EventPort           = "PortInUse"            // something else listens on the port
	EventSilent         = "EndpointSilent"       // an endpoint does not answer from a node, and gets no new connections there
)

// table has a row for each code.
var table = [...]row{
	NoEndpoint:           {code: "no-endpoint", text: "there is no endpoint", brief: "there is no endpoint, or no such port"},
	OnlyEndpointUnusable: {code: "only-endpoint-unusable", text: "the only endpoint cannot be used"},
	EndpointsUnusable:    {code: "endpoints-unusable", text: "none of the %d endpoints can be used"},
	NoSuchPort:           {code: "no-such-port", text: "the Service has no port %d/%s"},
	NoLocalEndpoint: {code: "no-local-endpoint", text: "the traffic policy is Local, and no endpoint on this node can be used",
		brief: "the traffic policy is Local and no endpoint is on this node"},
	NotInSourceRanges: {code: "not-in-source-ranges", text: "%s is not in loadBalancerSourceRanges (%s)",
		brief: "the client is in none of loadBalancerSourceRanges"},
	InDeniedRanges: {code: "in-denied-ranges", text: "%s is in loadBalancerSourceRanges, which are denied (%s)",
		brief: "the client is in loadBalancerSourceRanges, which are denied"},
	BySourceRanges:  {code: "by-source-ranges", text: "loadBalancerSourceRanges do not let the client in"},
	NoSuchClusterIP: {code: "no-such-cluster-ip", text: "no Service has this address of a ServiceCIDR", brief: "no Service has this address of a ServiceCIDR"},
	NotServed:       {code: "not-served", text: "no rule of nftproxy serves this address"},
	UnknownChain:    {code: "unknown-chain", text: "in chain %s"},

	MasqueradeAll:     {code: "masquerade-all", text: "masqueraded: --masquerade-all"},
	MasqueradeOutside: {code: "masquerade-outside", text: "masqueraded: a connection to a ClusterIP from outside the pod network"},
	MasqueradeNode:    {code: "masquerade-node", text: "masqueraded: it comes from the node itself"},
	MasqueradeExternal: {code: "masquerade-external",
		text: "masqueraded: under externalTrafficPolicy Cluster any node's endpoint may answer, and must do so through this node"},
	MasqueradeHairpin: {code: "masquerade-hairpin",
		text: "masqueraded where an endpoint connects to itself: its answers would else not come back through this node"},
	ExternalFromInside: {code: "external-from-inside", text: "pods and the node itself reach all endpoints under externalTrafficPolicy Local, too"},
	Remembered:         {code: "remembered", text: "session affinity: %s stays with %s"},
	EndpointGone:       {code: "endpoint-gone", text: "session affinity: the endpoint that %s was with is gone; it stays with the next one that it gets"},
	NoNodePortAddress:  {code: "no-node-port-address", text: "no address of the node that serves NodePorts is known: give --node-ip"},

	NotReady:            {code: "not-ready", text: "not ready"},
	TerminatingStandby:  {code: "terminating-standby", text: "terminating: it counts only where no endpoint is ready"},
	Terminating:         {code: "terminating", text: "terminating, and serving no more"},
	TerminatingReplaced: {code: "terminating-replaced", text: "terminating: another endpoint has its address now"},
	MeantForNode:        {code: "meant-for-node", text: "meant for node %s by its hints; this is node %s"},
	MeantForZone:        {code: "meant-for-zone", text: "meant for zone %s by its hints; this node is in zone %s"},
	NamedTwice:          {code: "named-twice", text: "named twice"},
	NotOnThisNode:       {code: "not-on-this-node", text: "not on this node"},
	WeightZero:          {code: "weight-zero", text: "its weight is 0"},
	Settling:            {code: "settling", text: "became ready a moment ago, and settles (nftproxy.io/settle)"},

	DoesNotAnswer:      {code: "does-not-answer", text: "does not answer from this node (failover)"},
	DoesNotAnswerTrial: {code: "does-not-answer-trial", text: "does not answer from this node (failover): the next new connection tries it"},

	NoSlice:       {code: "no-endpoint-slice", text: "there is no EndpointSlice of it, as of a Service whose selector matches no pods, or that has none"},
	NoSliceFamily: {code: "no-slice-of-family", text: "no EndpointSlice of it has %s addresses"},
	EmptySlices:   {code: "empty-endpoint-slices", text: "its EndpointSlices have no endpoint: its selector matches no pods that have an address"},
	SliceNoPort:   {code: "endpoint-slices-without-port", text: "its EndpointSlices have endpoints, but no port: no pod has the port of the name that it targets"},
	OtherPorts:    {code: "port-name-mismatch", text: "its EndpointSlices have port %s, the Service targets %s"},

	OlderService: {code: "older-service", event: EventConflict, text: "which the older Service port %s has",
		note: "the older %s has it", foreign: "an older Service in another namespace has it",
		log: "Not served: an older service has this address, protocol and port"},
	BetterClaim: {code: "better-claim", event: EventConflict, text: "which is the %s of Service port %s",
		note: "it is the %s of %s", foreign: "it is the %s of another Service",
		log: "Not served: another service has a better claim to this address, protocol and port"},
	ReachAPIServer: {code: "api-server", event: EventConflict, text: "by which this node reaches its API server",
		note: "this node reaches its API server there", foreign: "this node reaches its API server there",
		log: "Not served: this node reaches its API server there"},
	HealthPortAPIServer: {code: "health-port-api-server", event: EventConflict, text: "healthCheckNodePort %d is not served: this node reaches its API server there",
		log: "Not served: this node reaches its API server there"},

	ExternalName:      {code: "external-name", text: "is of type ExternalName, a name in DNS"},
	Headless:          {code: "headless", text: "is headless, so that clients get its endpoints from DNS"},
	NoClusterIPYet:    {code: "no-cluster-ip-yet", text: "has no ClusterIP yet"},
	LoadBalancerName:  {code: "load-balancer-name", text: "load balancer %s is not served: it is a name, not an address"},
	LoadBalancerProxy: {code: "load-balancer-proxy", text: "load balancer %s is not served: its ipMode is %s, so connections must go through it"},
	OtherNodes:        {code: "other-nodes", text: "is served on nodes that match %s, which this one does not"},

	BadAddress:     {code: "bad-address", event: EventInvalidService, text: "%s %q is not an IP address: left out"},
	SpecialAddress: {code: "special-address", event: EventInvalidService, text: "%s %q is %s: left out"},
	MappedAddress:  {code: "mapped-address", event: EventInvalidService, text: "%s %q is an IPv4 address in its IPv6 form: left out"},
	UnknownScheduler: {code: "unknown-scheduler", event: EventInvalidService,
		text: "annotation %s: scheduler %s: %s is used"},
	UnknownFailover: {code: "unknown-failover", event: EventInvalidService,
		text: "annotation %s: %q is neither \"true\" nor \"false\": %t is used"},
	BadProtocol:    {code: "bad-protocol", event: EventInvalidService, text: "port %q has protocol %q: only TCP, UDP and SCTP can be served"},
	BadPort:        {code: "bad-port", event: EventInvalidService, text: "port %q has number %d: left out"},
	BadNodePort:    {code: "bad-node-port", event: EventInvalidService, text: "port %q has node port %d: served without"},
	PortTwice:      {code: "port-twice", event: EventInvalidService, text: "it has two ports named %q: the second is left out"},
	NoHealthPort:   {code: "no-health-port", event: EventInvalidService, text: "healthCheckNodePort is %d: load balancers cannot ask this node for its endpoints"},
	BadSourceRange: {code: "bad-source-range", event: EventInvalidService, text: "loadBalancerSourceRanges: %q is not a CIDR: nobody is let in for it"},
	BadDeniedRange: {code: "bad-denied-range", event: EventInvalidService, text: "loadBalancerSourceRanges: %q is not a CIDR: nobody is denied for it"},
	BadAnnotation:  {code: "bad-annotation", event: EventInvalidService, text: "annotation %s: %s: %s is used"},
	UselessWeight: {code: "useless-weight", event: EventInvalidService,
		text: "local and zone weights have no effect with the scheduler %s, which chooses alike on all nodes"},
	MoreFaults: {code: "more-faults", event: EventInvalidService, text: "and %d more parts of it cannot be used"},

	TooManyPorts: {code: "too-many-ports", event: EventInvalidService, kind: "port", text: "it has %d ports, more than %d: the others are left out"},
	TooManyFrontends: {code: "too-many-frontends", event: EventInvalidService, kind: "frontend",
		text: "%s: it has %d addresses outside the cluster and %d ports, together more than %d: the first %d addresses are served"},
	TooManyRanges: {code: "too-many-source-ranges", event: EventInvalidService, kind: "source-range",
		text: "%s: it has %d loadBalancerSourceRanges and %d ports, together more than %d: the first %d ranges count"},
	TooManySets: {code: "too-many-sets", event: EventInvalidService, kind: "set",
		text: "it has %d ports with session affinity or loadBalancerSourceRanges, more than %d: the others, by their names, are served " +
			"without affinity, and where there are ranges not at load balancer addresses"},
	TooManyEndpoints: {code: "too-many-endpoints", event: EventInvalidService, kind: "endpoint",
		text: "a port has %d endpoints more than %d, which this Service can have for each port: they get no connections"},

	BadSlicePort:           {code: "bad-slice-port", event: EventInvalidSlice, text: "port %q (%s %d) cannot be served: left out"},
	NoAddress:              {code: "no-address", event: EventInvalidSlice, text: "it has no address: left out"},
	BadEndpointAddress:     {code: "bad-endpoint-address", event: EventInvalidSlice, text: "address %q is not an IP address: left out"},
	SpecialEndpointAddress: {code: "special-endpoint-address", event: EventInvalidSlice, text: "address %s is %s: left out"},
	OtherFamily:            {code: "other-family", event: EventInvalidSlice, text: "address %s is not of the slice's address type: left out"},
	BadWeight:              {code: "bad-weight", event: EventInvalidSlice, text: "annotation %s: %s: its endpoints have the weight 1"},

	KernelRefused: {code: "kernel-refused", event: EventRefused, text: "%s is not programmed: %v", log: "Service port is not programmed; the others are"},
	Silent:        {code: "silent", event: EventSilent, text: "%s does not answer from node %s: no new connections for %s"},
	PortInUse: {code: "port-in-use", event: EventPort, text: "NodePort is not served on a loopback address: %s",
		log: "NodePort is not served on a loopback address"},
	MoreConflicts: {code: "more-conflicts", event: EventConflict, text: "and %d more are not", log: "Not served: more addresses and ports that others have"},
}
