// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/rules"
)

// ObjectName is the namespace and name of a Service or an EndpointSlice.
type ObjectName struct{ Namespace, Name string }

// String returns NAMESPACE/NAME.
func (n ObjectName) String() string { return n.Namespace + "/" + n.Name }

// ServiceOf returns the name of the Service that an owner belongs to.
func ServiceOf(o rules.Owner) ObjectName { return ObjectName{o.Namespace, o.Name} }

// service is what proxying needs of a Service. Keep it so: there are thousands.
// Arrays are by family. No address is twice among the three kinds of them.
type service struct {
	created       time.Time
	uid           types.UID
	clusterIPs    [2]netip.Addr
	externalIPs   [2][]netip.Addr
	loadBalancers [2][]netip.Addr
	sourceRanges  [2][]netip.Prefix
	ports         ports
	policies      rules.Policies
	choices       choices
	healthPort    uint16 // healthCheckNodePort
	over          Excess // what it asks for beyond the bounds
	told          told
}

type servicePort struct {
	name     string
	protocol rules.Protocol
	port     uint16
	nodePort uint16 // of a Service only
	plain    bool   // without sets of its own: see maxSets
}

// ports are those of a Service or an EndpointSlice, sorted by name: there may be thousands.
type ports []servicePort

func (l ports) sort() {
	byName := func(a, b servicePort) int { return cmp.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(l, byName) {
		slices.SortStableFunc(l, byName)
	}
}

// named returns the ports of a name.
func (l ports) named(name string) ports {
	from, _ := slices.BinarySearchFunc(l, name, func(p servicePort, name string) int { return cmp.Compare(p.name, name) })
	to := from
	for to < len(l) && l[to].name == name {
		to++
	}
	return l[from:to]
}

func (s *service) port(name string) (servicePort, bool) {
	if s != nil {
		for _, p := range s.ports.named(name) {
			return p, true
		}
	}
	return servicePort{}, false
}

// alike says, by family, whether two services have all in common that their ports share.
func (s *service) alike(o *service) (by [2]bool) {
	if s == nil || o == nil || !s.created.Equal(o.created) || s.healthPort != o.healthPort ||
		s.policies != o.policies || s.choices != o.choices || endpointLimit(len(s.ports)) != endpointLimit(len(o.ports)) {
		return by
	}
	for _, f := range rules.Families {
		by[f] = s.clusterIPs[f] == o.clusterIPs[f] && slices.Equal(s.externalIPs[f], o.externalIPs[f]) &&
			slices.Equal(s.loadBalancers[f], o.loadBalancers[f]) && slices.Equal(s.sourceRanges[f], o.sourceRanges[f])
	}
	return by
}

// slice is what proxying needs of an EndpointSlice.
type slice struct {
	service   ObjectName
	family    rules.Family
	ports     ports // name, protocol and port of the endpoints
	endpoints []endpoint
	weight    uint16 // of all endpoints, if somebody says so
	idle      bool   // it is 0
	at        int    // in store.byService
}

// endpoint is one of an EndpointSlice's. Keep it small: there are hundreds of thousands.
type endpoint struct {
	ip                          [16]byte // IPv4 in its IPv6-mapped form
	ready, serving, terminating bool
	local, nodeUnknown          bool
	hints                       *hints // nil: none
	at                          unique.Handle[place]
	pod                         string // if it is one; told to who asks
}

// place is where many endpoints are. The node is told to who asks.
type place struct{ zone, node string }

// addr returns the address.
func (e *endpoint) addr() netip.Addr { return netip.AddrFrom16(e.ip).Unmap() }

// place returns where it is; nothing is said of what is not known.
func (e *endpoint) place() place {
	if e.at == (unique.Handle[place]{}) {
		return place{}
	}
	return e.at.Value()
}

// hints name the nodes and zones that an endpoint is meant for.
type hints struct{ nodes, zones []string }

// equal says whether two endpoints are the same for packets.
func (e *endpoint) equal(o *endpoint) bool {
	return e.ip == o.ip && e.ready == o.ready && e.serving == o.serving && e.terminating == o.terminating &&
		e.local == o.local && e.nodeUnknown == o.nodeUnknown && e.hints.equal(o.hints) && (e.at == o.at || e.place().zone == o.place().zone)
}

func (h *hints) equal(o *hints) bool {
	if h == nil || o == nil {
		return h == o
	}
	return slices.Equal(h.nodes, o.nodes) && slices.Equal(h.zones, o.zones)
}

func (s *slice) equal(o *slice) bool {
	return s != nil && o != nil && s.service == o.service && s.family == o.family && s.weight == o.weight && s.idle == o.idle &&
		slices.Equal(s.ports, o.ports) && slices.EqualFunc(s.endpoints, o.endpoints, func(a, b endpoint) bool { return a.equal(&b) })
}

// eachOwner calls fn for each service port and family of a service.
func eachOwner(n ObjectName, s *service, fn func(rules.Owner, rules.ServicePort)) {
	if s == nil {
		return
	}
	for _, f := range rules.Families {
		if !s.clusterIPs[f].IsValid() {
			continue
		}
		for _, p := range s.ports {
			o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: n.Namespace, Name: n.Name, Port: p.name}, Family: f}
			fn(o, s.as(o, p))
		}
	}
}

// portOf returns the service port that an owner stands for, as a service has it.
func portOf(s *service, o rules.Owner) (rules.ServicePort, bool) {
	p, ok := s.port(o.Port)
	if !ok || !s.clusterIPs[o.Family].IsValid() {
		return rules.ServicePort{}, false
	}
	return s.as(o, p), true
}

// as returns one of the ports as the service port of its owner.
func (s *service) as(o rules.Owner, p servicePort) rules.ServicePort {
	f := o.Family
	sp := rules.ServicePort{
		Name: o.ServicePortName, Family: f, Protocol: p.protocol,
		ClusterIP: s.clusterIPs[f], Port: p.port, NodePort: p.nodePort,
		ExternalIPs: s.externalIPs[f], LoadBalancerIPs: s.loadBalancers[f], SourceRanges: s.sourceRanges[f],
		Policies: s.policies, Limits: rules.Limits{EndpointLimit: endpointLimit(len(s.ports))},
	}
	if s.choices.noClusterIP {
		sp.ClusterIP = netip.Addr{}
	}
	if p.plain {
		if sp.Affinity = 0; len(sp.SourceRanges) > 0 {
			sp.LoadBalancerIPs = nil
		}
	}
	return sp
}
