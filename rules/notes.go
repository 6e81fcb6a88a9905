// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
)

// note says what a chain is for.
func (c Chain) note() string {
	switch c.Name {
	case chainNoEndpoints:
		return "service ports without endpoints: the client is told at once"
	case chainNoLocalEndpoints:
		return "traffic policy Local, and no endpoint on this node: dropped"
	case chainServices:
		return "decides where new connections go; destinations that are no service's fall through"
	case chainNodePorts:
		return "decides about connections to the node's own addresses"
	case chainPostrouting:
		return "after translation: remembers clients, and masquerades"
	case chainInput:
		return "remembers clients of endpoints on the node itself"
	case chainPrerouting:
		return "connections from pods and from outside"
	case chainOutput:
		return "connections from the node itself"
	}
	prefix, of, service := strings.Cut(c.Name, "/")
	if !service {
		return fmt.Sprintf("scheduler %s: all frontends with as many endpoints", c.Name)
	}
	switch prefix {
	case prefixService:
		return of + ": chooses one of the endpoints of the traffic policy Cluster"
	case prefixLocal:
		return of + ": chooses one of the endpoints on this node, for the traffic policy Local"
	case prefixExternal:
		return of + ": externalTrafficPolicy Local: pods and the node go to all endpoints, others to those on this node"
	case prefixFirewall:
		return of + ": lets loadBalancerSourceRanges in only"
	case prefixRemember, prefixRememberLocal:
		return of + ": session affinity: remembers the client's endpoint"
	case prefixRememberExternal:
		return of + ": session affinity: under which policy the client is remembered"
	}
	return ""
}
