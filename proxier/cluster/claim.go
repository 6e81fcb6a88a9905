// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"

	"github.com/nftproxy/nftproxy/rules"
)

// Class is what an address is to a Service. The first one has the better claim, however old the
// Services are: ClusterIPs and NodePorts are allocated, load balancers have controllers, and
// externalIPs are whatever somebody writes there.
type Class uint8

const (
	classClusterIP Class = iota
	classNodePort
	classLoadBalancer
	classExternalIP
)

// String names it as a user does.
func (c Class) String() string {
	return [...]string{"ClusterIP", "NodePort", "load balancer address", "external IP"}[c]
}

// claim is a frontend that a service port wants.
type claim struct {
	rules.Frontend
	class Class
}

// claimsOf returns what a service port wants, each once: convertService sees to it that no
// address is in two lists.
func claimsOf(sp *rules.ServicePort) []claim {
	out := make([]claim, 0, 2+len(sp.LoadBalancerIPs)+len(sp.ExternalIPs))
	add := func(c Class, a netip.Addr, port uint16) {
		out = append(out, claim{rules.Frontend{Addr: a, Protocol: sp.Protocol, Port: port}, c})
	}
	if sp.ClusterIP.IsValid() {
		add(classClusterIP, sp.ClusterIP, sp.Port)
	}
	if sp.NodePort != 0 {
		add(classNodePort, sp.Family.Unspecified(), sp.NodePort)
	}
	for _, a := range sp.LoadBalancerIPs {
		add(classLoadBalancer, a, sp.Port)
	}
	for _, a := range sp.ExternalIPs {
		add(classExternalIP, a, sp.Port)
	}
	return out
}

// Loopback returns the address of a family by which a host reaches itself.
func Loopback(f rules.Family) netip.Addr {
	if f == rules.IPv6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
