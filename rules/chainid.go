// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strconv"
	"strings"
)

// Role says what a chain is for. It is the chain's name, or what the names of service ports' chains begin with.
type Role string

// The roles of chains that every table has once.
const (
	ChainNoEndpoints      Role = "no-endpoints"
	ChainNoLocalEndpoints Role = "no-local-endpoints"
	ChainServices         Role = "services"
	ChainNodePorts        Role = "nodeports"
	ChainPrerouting       Role = "prerouting"
	ChainOutput           Role = "output"
	ChainPostrouting      Role = "postrouting"
	ChainInput            Role = "input"
	ChainFailover         Role = "failover"
	ChainFailoverUDP      Role = "failover-udp"
	ChainFailoverIn       Role = "failover-prerouting"
	ChainFailoverOut      Role = "failover-output"
)

// The roles of chains that a service port has.
const (
	ChainService          Role = "service"           // the endpoints of the policy Cluster
	ChainLocal            Role = "local"             // those of the policy Local
	ChainExternal         Role = "external"          // decides between the two
	ChainFirewall         Role = "firewall"          // lets only source ranges in
	ChainRemember         Role = "remember"          // remembers a client's endpoint
	ChainRememberLocal    Role = "remember-local"    // the same for the policy Local
	ChainRememberExternal Role = "remember-external" // decides between the two
)

// role is the row of a Role.
type role struct {
	role Role
	note string // what it is for; of a service port's chain, after the service port's name
	// rank orders chains: one comes after those that it jumps or goes to. Those with a hook come last.
	rank int
	// common says that every table has one.
	common bool
	// refuses says that no connection gets further.
	refuses bool
}

var roles = [...]role{
	{role: ChainNoEndpoints, common: true, refuses: true, note: "service ports without endpoints: the client is told at once"},
	{role: ChainNoLocalEndpoints, common: true, refuses: true, note: "traffic policy Local, and no endpoint on this node: dropped"},
	{role: ChainServices, common: true, rank: 2, note: "decides where new connections go; destinations that are no service's fall through"},
	{role: ChainNodePorts, common: true, rank: 1, note: "decides about connections to the node's own addresses"},
	{role: ChainPrerouting, common: true, note: "connections from pods and from outside"},
	{role: ChainOutput, common: true, note: "connections from the node itself"},
	{role: ChainPostrouting, common: true, note: "after translation: remembers clients, and masquerades"},
	{role: ChainInput, common: true, note: "remembers clients of endpoints on the node itself"},
	{role: ChainFailover, common: true, rank: 1, note: "failover: notes who answers, and connections whose first packet was sent again"},
	{role: ChainFailoverUDP, common: true, note: "failover: notes UDP flows whose third packet has no answer either"},
	{role: ChainFailoverIn, common: true, note: "failover: of all packets, those of translated connections that are not yet settled"},
	{role: ChainFailoverOut, common: true, note: "failover: the same for the node's own packets"},
	{role: ChainService, note: "chooses one of the endpoints of the traffic policy Cluster"},
	{role: ChainLocal, note: "chooses one of the endpoints on this node, for the traffic policy Local"},
	{role: ChainExternal, rank: 1, note: "externalTrafficPolicy Local: pods and the node go to all endpoints, others to those on this node"},
	{role: ChainFirewall, rank: 2, note: "lets loadBalancerSourceRanges in only"},
	{role: ChainRemember, note: "session affinity: remembers the client's endpoint"},
	{role: ChainRememberLocal, note: "session affinity: remembers the client's endpoint"},
	{role: ChainRememberExternal, rank: 1, note: "session affinity: under which policy the client is remembered"},
}

// row returns the role's row; an empty one for a role that is none of these.
func (r Role) row() *role {
	for i := range roles {
		if roles[i].role == r {
			return &roles[i]
		}
	}
	return &role{}
}

// Chain returns the name of the chain that every table has for the role.
func (r Role) Chain() string { return string(r) }

// Refuses says that no connection gets further than a chain of the role.
func (r Role) Refuses() bool { return r.row().refuses }

// ChainID names a chain in a table: what it is for, and, where each service port has its own, for which.
type ChainID struct {
	Role Role
	Of   ServicePortName
}

// sharedChain names the chain that all frontends with so many endpoints share under a scheduler.
func sharedChain(s Scheduler, endpoints int) ChainID {
	return ChainID{Role: Role(fmt.Sprintf("%s-%d", s, endpoints))}
}

// shared says whether it is such a chain.
func (id ChainID) shared() bool {
	at := strings.LastIndexByte(string(id.Role), '-')
	if at < 0 || id.Of != (ServicePortName{}) {
		return false
	}
	_, notNumber := strconv.Atoi(string(id.Role[at+1:]))
	s, unknown := ParseScheduler(string(id.Role[:at]))
	return notNumber == nil && unknown == nil && schedulers[s].shares
}

// Name returns the chain's name in the kernel.
func (id ChainID) Name() string { return string(id.Role) + id.Of.suffix() }

// ParseChainID returns the ID of the chain that has a name. A chain that is not ours may have any role.
func ParseChainID(name string) ChainID {
	role, of, _ := strings.Cut(name, "/")
	return ChainID{Role(role), parseSuffix(of)}
}

// note says what the chain is for; nothing for one that is not ours.
func (id ChainID) note() string {
	note := id.Role.row().note
	switch {
	case id.shared():
		return fmt.Sprintf("scheduler %s: all frontends with as many endpoints", id.Role)
	case note != "" && id.Of != (ServicePortName{}):
		return id.Of.suffix()[1:] + ": " + note
	}
	return note
}

// suffix is what the names of a service port's objects end with: /NAMESPACE/NAME, and /PORT where the port has a name.
func (n ServicePortName) suffix() string {
	switch {
	case n == ServicePortName{}:
		return ""
	case n.Port == "":
		return "/" + n.Namespace + "/" + n.Name
	}
	return "/" + n.Namespace + "/" + n.Name + "/" + n.Port
}

// parseSuffix is the reverse of suffix, without the first slash.
func parseSuffix(of string) ServicePortName {
	namespace, rest, _ := strings.Cut(of, "/")
	name, port, _ := strings.Cut(rest, "/")
	return ServicePortName{Namespace: namespace, Name: name, Port: port}
}
