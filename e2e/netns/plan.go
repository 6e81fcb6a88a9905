// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"fmt"
	"net/netip"
)

// Address ranges of the cluster.
const (
	ClusterCIDR4 = "10.244.0.0/16" // pods of all nodes
	ClusterCIDR6 = "fd00:10:244::/48"
	PodCIDR4     = "10.244.1.0/24" // pods of the node
	PodCIDR6     = "fd00:10:244:1::/64"
	RemoteCIDR4  = "10.244.2.0/24" // pods of the other node
	RemoteCIDR6  = "fd00:10:244:2::/64"
	NodeNet4     = "172.18.0.0/24" // nodes and outside
	NodeNet6     = "fd00:172:18::/64"
	ServiceCIDR4 = "10.96.0.0/16"
	ServiceCIDR6 = "fd00:10:96::/112"
)

// Family is an IP version.
type Family int

// The IP versions.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families returns both, to range over.
func Families() [2]Family { return [2]Family{IPv4, IPv6} }

func (f Family) String() string { return fmt.Sprintf("IPv%d", int(f)) }

// Host is a namespace with one address of each family.
type Host struct {
	*NS
	V4, V6 netip.Addr
}

// Addr returns the host's address of a family.
func (h Host) Addr(f Family) netip.Addr {
	if f == IPv6 {
		return h.V6
	}
	return h.V4
}

// ServiceAddr returns the i-th address of the service range, i up to 65535.
func ServiceAddr(f Family, i int) netip.Addr {
	if f == IPv6 {
		return nth(ServiceCIDR6, i)
	}
	return nth(ServiceCIDR4, i)
}

// nth returns the i-th address of a range, i up to 65535.
func nth(cidr string, i int) netip.Addr {
	b := netip.MustParsePrefix(cidr).Addr().AsSlice()
	b[len(b)-2] += byte(i >> 8)
	b[len(b)-1] += byte(i)
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

func host(n *NS, cidr4, cidr6 string, i int) Host {
	return Host{NS: n, V4: nth(cidr4, i), V6: nth(cidr6, i)}
}
