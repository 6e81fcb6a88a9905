// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
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

// Unspecified returns the family's address that is no address: 0.0.0.0 or ::.
func (f Family) Unspecified() netip.Addr {
	if f == IPv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
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

// AllProtocols lists them.
var AllProtocols = [...]Protocol{TCP, UDP, SCTP}

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

// ParseProtocol returns the protocol of a name, in capitals or not; an error names those that there are.
func ParseProtocol(name string) (Protocol, error) {
	names := make([]string, len(AllProtocols))
	for i, p := range AllProtocols {
		if names[i] = p.String(); strings.EqualFold(names[i], name) {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%q is none of %s", name, strings.Join(names, ", "))
}

// ServicePortName names a port of a Service. Port is empty for a Service whose
// only port has no name.
type ServicePortName struct {
	Namespace, Name, Port string
}

// String returns namespace/name, and :port where the port has a name. It is printable: in the kernel a chain may
// have any name.
func (n ServicePortName) String() string {
	s := n.Service()
	if n.Port != "" {
		s += ":" + printable.Word(n.Port)
	}
	return s
}

// Service returns namespace/name, printable.
func (n ServicePortName) Service() string {
	return printable.Word(n.Namespace) + "/" + printable.Word(n.Name)
}

// Owner is what objects belong to: a service port in one family.
type Owner struct {
	ServicePortName
	Family Family
}

// String names the service port and the family.
func (o Owner) String() string { return o.ServicePortName.String() + " (" + o.Family.String() + ")" }

// Compare sorts owners by namespace, name, port and family.
func (o Owner) Compare(other Owner) int {
	return cmp.Or(cmp.Compare(o.Namespace, other.Namespace), cmp.Compare(o.Name, other.Name),
		cmp.Compare(o.Port, other.Port), cmp.Compare(o.Family, other.Family))
}

// ServicePort is a port of a Service in one family: where clients connect to, and
// how their connections are spread. The addresses are of that family.
type ServicePort struct {
	Name     ServicePortName
	Family   Family
	Protocol Protocol
	// ClusterIP and Port are where clients in the cluster connect to. The
	// ClusterIP may be invalid: not served. A Port of 0 makes a service port
	// without objects.
	ClusterIP netip.Addr
	Port      uint16
	// NodePort is the port on the node's own addresses, 0 if there is none.
	NodePort uint16
	// ExternalIPs and LoadBalancerIPs are where clients elsewhere connect to, at Port.
	ExternalIPs     []netip.Addr
	LoadBalancerIPs []netip.Addr
	// SourceRanges are those that may connect to LoadBalancerIPs; none: all may. See Policies.DenySources.
	SourceRanges []netip.Prefix
	Policies
	Limits
	Ejection Ejection
}

// Limits bound what a service port takes.
type Limits struct {
	// SlotLimit is how many slots weights or a table may take for each traffic policy, where that is more than there are
	// endpoints, and how many elements may copy them for frontends; 0: MaxEndpoints.
	SlotLimit int
	// EndpointLimit is how many endpoints each traffic policy may have, and how many elements may copy them for the
	// frontends of schedulers that share chains, beyond which the service port has one of its own; 0: MaxEndpoints.
	EndpointLimit int
}

// Policies say how a Service has its connections spread over endpoints: the same for all of its ports.
type Policies struct {
	// InternalLocal and ExternalLocal are the traffic policies Local, for the
	// ClusterIP and for all other addresses.
	InternalLocal, ExternalLocal bool
	// Affinity is how long a client stays with its endpoint after its last new
	// connection, in seconds; 0: it does not.
	Affinity  uint32
	Scheduler Scheduler
	// Failover says that connections without an answer are freed from their endpoints.
	Failover bool
	// TableSize is the size of a scheduler's table, see IsMaglevSize; 0: DefaultMaglevSize.
	TableSize uint16
	// LocalWeight and ZoneWeight multiply the weights of endpoints on this node, and in its zone. The greater one counts; 0: 1.
	LocalWeight, ZoneWeight uint16
	// DenySources makes SourceRanges those that may not connect.
	DenySources bool
}

// External says whether the service port has any address besides its ClusterIP.
func (sp *ServicePort) External() bool {
	return sp.NodePort != 0 || len(sp.ExternalIPs) > 0 || len(sp.LoadBalancerIPs) > 0
}

// Endpoint is one address and port that a service port can forward to, as its
// EndpointSlices tell.
type Endpoint struct {
	Addr        netip.AddrPort
	Ready       bool
	Serving     bool
	Terminating bool
	// Local says that the endpoint is on this node, NodeUnknown that it is not
	// known where it is.
	Local       bool
	NodeUnknown bool
	// NodeHints and ZoneHints name the nodes and zones that the endpoint is meant for.
	NodeHints []string
	ZoneHints []string
	Weighting
}

// Node is what matters of the node, which may change at any time.
type Node struct {
	// Name and Zone are compared with endpoints' hints.
	Name string
	Zone string
	// IPs are the node's primary addresses, by family. Source ranges that hold
	// one let the node itself in.
	IPs [2]netip.Addr
	// NodePortIPs are the addresses that serve NodePorts; with
	// Config.AllNodePortIPs, all of the node's.
	NodePortIPs []netip.Addr
	// PodCIDRs are the source addresses of pods, besides Config.PodCIDRs.
	PodCIDRs []netip.Prefix
	// ServiceCIDRs are the ranges of ClusterIPs. Connections to addresses in
	// them that no Service has, ours or another proxy's, are dropped.
	ServiceCIDRs []netip.Prefix
}

// Config is what holds for all services.
type Config struct {
	// Table is the name of both tables. Default: nftproxy.
	Table string
	// PodCIDRs are the source addresses of pods. Connections to a ClusterIP from
	// elsewhere are masqueraded. A family without a CIDR masquerades none.
	PodCIDRs []netip.Prefix
	// PodInterface tells pods by the interface that their packets come from,
	// instead of by PodCIDRs: its name, or the beginning of its name and a '*'.
	PodInterface string
	// MasqueradeAll masquerades every connection to a ClusterIP.
	MasqueradeAll bool
	// MasqueradeMark is the bit of the packet mark, as a value, that says
	// 'masquerade this connection' between our chains. Default: 0x4000.
	MasqueradeMark uint32
	// AllNodePortIPs serves NodePorts on every address of the node, whatever
	// Node.NodePortIPs lists, but for loopback addresses.
	AllNodePortIPs bool
	// AffinitySize is how many clients each service port with session affinity
	// can remember. Default: 262144.
	AffinitySize uint32
	// CountConnections makes the kernel count the new connections to each frontend.
	CountConnections bool
	// Hold says whether the tables are to have an owner. Default: they stay as they are.
	Hold Hold
	// MaglevSeed makes tables and hashes of Maglev differ from other clusters'. All nodes need the same one. Default: HashSeed.
	MaglevSeed uint32
}

// Defaults.
const (
	DefaultTable          = "nftproxy"
	DefaultMasqueradeMark = 1 << 14
	DefaultAffinitySize   = 1 << 18
)

// WithDefaults returns c with its zero fields set to their defaults.
func (c Config) WithDefaults() Config {
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if c.MasqueradeMark == 0 {
		c.MasqueradeMark = DefaultMasqueradeMark
	}
	if c.AffinitySize == 0 {
		c.AffinitySize = DefaultAffinitySize
	}
	if c.MaglevSeed == 0 {
		c.MaglevSeed = HashSeed
	}
	return c
}

// Equal says whether two nodes are the same.
func (n *Node) Equal(o *Node) bool {
	return n.BuildsEqual(o) && slices.Equal(n.NodePortIPs, o.NodePortIPs) && slices.Equal(n.ServiceCIDRs, o.ServiceCIDRs)
}

// BuildsEqual says whether Build makes the same objects on both nodes.
func (n *Node) BuildsEqual(o *Node) bool {
	return n.Name == o.Name && n.Zone == o.Zone && n.IPs == o.IPs && slices.Equal(n.PodCIDRs, o.PodCIDRs)
}
