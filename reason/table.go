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

	// Why a Service port does without a frontend.
	OlderService        // [Service port that has it]
	BetterClaim         // [what it is to the Service port, the Service port]; in a foreign note without the last
	ReachAPIServer      //
	HealthPortAPIServer // [number]

	// Why a Service, or its load balancer, is not served at all.
	ExternalName
	Headless
	NoClusterIPYet
	LoadBalancerName  // [name]
	LoadBalancerProxy // [address, ipMode]
)

// Reasons of Events, in CamelCase.
const (
	eventConflict = "FrontendConflict" // another Service, or the API server, has the address, protocol and port
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

	OlderService: {code: "older-service", event: eventConflict, text: "which the older Service port %s has",
		note: "the older %s has it", foreign: "an older Service in another namespace has it",
		log: "Not served: an older service has this address, protocol and port"},
	BetterClaim: {code: "better-claim", event: eventConflict, text: "which is the %s of Service port %s",
		note: "it is the %s of %s", foreign: "it is the %s of another Service",
		log: "Not served: another service has a better claim to this address, protocol and port"},
	ReachAPIServer: {code: "api-server", event: eventConflict, text: "by which this node reaches its API server",
		note: "this node reaches its API server there", foreign: "this node reaches its API server there",
		log: "Not served: this node reaches its API server there"},
	HealthPortAPIServer: {code: "health-port-api-server", event: eventConflict, text: "healthCheckNodePort %d is not served: this node reaches its API server there",
		log: "Not served: this node reaches its API server there"},

	ExternalName:      {code: "external-name", text: "is of type ExternalName, a name in DNS"},
	Headless:          {code: "headless", text: "is headless, so that clients get its endpoints from DNS"},
	NoClusterIPYet:    {code: "no-cluster-ip-yet", text: "has no ClusterIP yet"},
	LoadBalancerName:  {code: "load-balancer-name", text: "load balancer %s is not served: it is a name, not an address"},
	LoadBalancerProxy: {code: "load-balancer-proxy", text: "load balancer %s is not served: its ipMode is %s, so connections must go through it"},
}
