// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
)

// Family is an address family, and with it one of the two tables.
type Family uint8

// The families. Their values index arrays of two.
const (
	IPv4 Family = iota
	IPv6
)

// Families lists both families, in the order in which tables are written.
var Families = [...]Family{IPv4, IPv6}

// String returns nft's name of the family: ip or ip6.
func (f Family) String() string {
	if f == IPv6 {
		return "ip6"
	}
	return "ip"
}

// FamilyOf returns the family of an address. An IPv4-mapped IPv6 address is
// IPv4's.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Protocol is an IANA protocol number.
type Protocol uint8

// The protocols that a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String returns nft's name of the protocol.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("%d", uint8(p))
}

// ServicePortName names a port of a Service. Port is empty for a Service whose
// only port has no name.
type ServicePortName struct {
	Namespace, Name, Port string
}

// String returns namespace/name, and :port where the port has a name.
func (n ServicePortName) String() string {
	s := n.Namespace + "/" + n.Name
	if n.Port != "" {
		s += ":" + n.Port
	}
	return s
}

// Owner is what objects belong to: a service port in one family.
type Owner struct {
	ServicePortName
	Family Family
}

// String names the service port and the family.
func (o Owner) String() string { return o.ServicePortName.String() + " (" + o.Family.String() + ")" }

// ServicePort is a port of a Service in one family: where clients connect to.
type ServicePort struct {
	Name     ServicePortName
	Protocol Protocol
	// ClusterIP and Port are the frontend. An invalid ClusterIP makes a
	// service port without objects.
	ClusterIP netip.Addr
	Port      uint16
}

// Endpoint is one address and port that a service port can forward to, as its
// EndpointSlices tell.
type Endpoint struct {
	Addr        netip.AddrPort
	Ready       bool
	Serving     bool
	Terminating bool
	// Local says that the endpoint is on this node, or that it is not known
	// where it is.
	Local bool
}

// Config is what holds for all services.
type Config struct {
	// Table is the name of both tables. Default: nftproxy.
	Table string
	// PodCIDRs are the source addresses of pods. Connections to a ClusterIP from
	// elsewhere are masqueraded. A family without a CIDR masquerades none.
	PodCIDRs []netip.Prefix
	// MasqueradeAll masquerades every connection to a ClusterIP.
	MasqueradeAll bool
	// MasqueradeMark is the bit of the packet mark, as a value, that says
	// 'masquerade this connection' between our chains. Default: 0x4000.
	MasqueradeMark uint32
}

// Defaults.
const (
	DefaultTable          = "nftproxy"
	DefaultMasqueradeMark = 1 << 14
)

// WithDefaults returns c with its zero fields set to their defaults.
func (c Config) WithDefaults() Config {
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if c.MasqueradeMark == 0 {
		c.MasqueradeMark = DefaultMasqueradeMark
	}
	return c
}
