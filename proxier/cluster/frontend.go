// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/nftproxy/nftproxy/rules"
)

// Frontend is what only one service port can have. A NodePort's address is its
// family's unspecified one.
type Frontend struct {
	Addr     netip.Addr
	Protocol rules.Protocol
	Port     uint16
}

// FrontendOf returns the frontend that a key of a set stands for: without an address it is a NodePort.
func FrontendOf(f rules.Family, k rules.Key) Frontend {
	if !k.Addr.IsValid() {
		return Frontend{unspecified(f), k.Protocol, k.Port}
	}
	return Frontend{k.Addr, k.Protocol, k.Port}
}

// String returns such as 10.0.0.1:80/TCP or NodePort 30080/TCP.
func (f Frontend) String() string {
	if f.IsNodePort() {
		return fmt.Sprintf("NodePort %d/%s", f.Port, f.Protocol)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(f.Addr, f.Port), f.Protocol)
}

// IsNodePort says whether it is a NodePort.
func (f Frontend) IsNodePort() bool { return f.Addr.IsUnspecified() }

// nodePort returns the NodePort of the frontend's number.
func (f Frontend) nodePort() Frontend {
	return Frontend{unspecified(rules.FamilyOf(f.Addr)), f.Protocol, f.Port}
}

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
	Frontend
	class Class
}

// claimsOf returns what a service port wants, each once: convertService sees to it that no
// address is in two lists.
func claimsOf(sp *rules.ServicePort) []claim {
	out := make([]claim, 0, 2+len(sp.LoadBalancerIPs)+len(sp.ExternalIPs))
	add := func(c Class, a netip.Addr, port uint16) { out = append(out, claim{Frontend{a, sp.Protocol, port}, c}) }
	if sp.ClusterIP.IsValid() {
		add(classClusterIP, sp.ClusterIP, sp.Port)
	}
	if sp.NodePort != 0 {
		add(classNodePort, unspecified(sp.Family), sp.NodePort)
	}
	for _, a := range sp.LoadBalancerIPs {
		add(classLoadBalancer, a, sp.Port)
	}
	for _, a := range sp.ExternalIPs {
		add(classExternalIP, a, sp.Port)
	}
	return out
}

func unspecified(f rules.Family) netip.Addr {
	if f == rules.IPv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// Loopback returns the address of a family by which a host reaches itself.
func Loopback(f rules.Family) netip.Addr {
	if f == rules.IPv6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// CompareOwners sorts owners by namespace, name, port and family.
func CompareOwners(a, b rules.Owner) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Family, b.Family))
}
