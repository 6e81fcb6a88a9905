// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// objectName is the namespace and name of a Service or an EndpointSlice.
type objectName struct{ namespace, name string }

func (n objectName) String() string { return n.namespace + "/" + n.name }

// service is what proxying needs of a Service. Keep it so: there are thousands.
type service struct {
	created    time.Time
	clusterIPs [2]netip.Addr // by family
	ports      []servicePort
}

type servicePort struct {
	name     string
	protocol rules.Protocol
	port     uint16
}

func (s *service) port(name string) (servicePort, bool) {
	if s != nil {
		for _, p := range s.ports {
			if p.name == name {
				return p, true
			}
		}
	}
	return servicePort{}, false
}

// slice is what proxying needs of an EndpointSlice.
type slice struct {
	service   objectName
	family    rules.Family
	ports     []servicePort // name, protocol and port of the endpoints
	endpoints []endpoint
}

type endpoint struct {
	addr                        netip.Addr
	ready, serving, terminating bool
	local                       bool
}

func (s *slice) equal(o *slice) bool {
	return s != nil && o != nil && s.service == o.service && s.family == o.family &&
		slices.Equal(s.ports, o.ports) && slices.Equal(s.endpoints, o.endpoints)
}

// store holds all services and slices, and which owners have changed since they
// were last taken.
type store struct {
	services map[objectName]*service
	slices   map[objectName]*slice
	// byService finds the slices of a service.
	byService map[objectName]map[objectName]*slice
	frontends claims
	changed   map[rules.Owner]struct{}
}

func newStore() *store {
	return &store{
		services:  map[objectName]*service{},
		slices:    map[objectName]*slice{},
		byService: map[objectName]map[objectName]*slice{},
		frontends: newClaims(),
		changed:   map[rules.Owner]struct{}{},
	}
}

// setService stores a service, or with nil forgets it, and marks the owners that
// this changes.
func (st *store) setService(n objectName, s *service) {
	old := st.services[n]
	if s == nil {
		delete(st.services, n)
	} else {
		st.services[n] = s
	}
	st.eachOwner(n, old, func(o rules.Owner, sp rules.ServicePort) {
		if was, now := sp, st.servicePort(o); was != now || !sameAge(old, s) {
			st.mark(o, st.frontends.release(frontendOf(was), o))
		}
	})
	st.eachOwner(n, s, func(o rules.Owner, sp rules.ServicePort) {
		was, had := portOf(old, o)
		if !had || was != sp || !sameAge(old, s) {
			st.mark(o, st.frontends.claim(frontendOf(sp), claimant{o, s.created}))
		}
	})
}

func sameAge(a, b *service) bool { return a != nil && b != nil && a.created.Equal(b.created) }

// mark notes owners as changed; those without a name are none.
func (st *store) mark(owners ...rules.Owner) {
	for _, o := range owners {
		if o.Name != "" {
			st.changed[o] = struct{}{}
		}
	}
}

// eachOwner calls fn for each service port and family of a service.
func (st *store) eachOwner(n objectName, s *service, fn func(rules.Owner, rules.ServicePort)) {
	if s == nil {
		return
	}
	for _, f := range rules.Families {
		for _, p := range s.ports {
			o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: n.namespace, Name: n.name, Port: p.name}, Family: f}
			if sp, ok := portOf(s, o); ok {
				fn(o, sp)
			}
		}
	}
}

// portOf returns the service port that an owner stands for, as a service has it.
func portOf(s *service, o rules.Owner) (rules.ServicePort, bool) {
	p, ok := s.port(o.Port)
	if !ok || !s.clusterIPs[o.Family].IsValid() {
		return rules.ServicePort{}, false
	}
	return rules.ServicePort{Name: o.ServicePortName, Protocol: p.protocol, ClusterIP: s.clusterIPs[o.Family], Port: p.port}, true
}

// servicePort returns the service port of an owner; its zero value if there is none.
func (st *store) servicePort(o rules.Owner) rules.ServicePort {
	n := objectName{o.Namespace, o.Name}
	sp, _ := portOf(st.services[n], o)
	return sp
}

// setSlice stores a slice, or with nil forgets it, and marks the owners whose
// endpoints it changes.
func (st *store) setSlice(n objectName, s *slice) {
	old := st.slices[n]
	if old == nil && s == nil || old.equal(s) {
		return
	}
	if old != nil {
		st.markSlice(old)
		delete(st.slices, n)
		delete(st.byService[old.service], n)
		if len(st.byService[old.service]) == 0 {
			delete(st.byService, old.service)
		}
	}
	if s != nil {
		st.markSlice(s)
		st.slices[n] = s
		if st.byService[s.service] == nil {
			st.byService[s.service] = map[objectName]*slice{}
		}
		st.byService[s.service][n] = s
	}
}

func (st *store) markSlice(s *slice) {
	svc := st.services[s.service]
	for _, p := range s.ports {
		if sp, ok := svc.port(p.name); ok && sp.protocol == p.protocol {
			st.mark(rules.Owner{
				ServicePortName: rules.ServicePortName{Namespace: s.service.namespace, Name: s.service.name, Port: p.name},
				Family:          s.family,
			})
		}
	}
}

// take returns the changed owners, in order, and forgets that they changed.
func (st *store) take() []rules.Owner {
	if len(st.changed) == 0 {
		return nil
	}
	out := make([]rules.Owner, 0, len(st.changed))
	for o := range st.changed {
		out = append(out, o)
	}
	clear(st.changed)
	slices.SortFunc(out, compareOwners)
	return out
}

func compareOwners(a, b rules.Owner) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Family, b.Family))
}

// input returns what rules.Build needs for an owner. An owner that is gone, or
// whose frontend is an older service's, has a service port without an address.
func (st *store) input(o rules.Owner) (rules.ServicePort, []rules.Endpoint) {
	sp := st.servicePort(o)
	if sp.Port == 0 || !st.frontends.holds(frontendOf(sp), o) {
		return rules.ServicePort{Name: o.ServicePortName}, nil
	}
	return sp, st.endpoints(o, sp.Protocol)
}

func (st *store) endpoints(o rules.Owner, protocol rules.Protocol) []rules.Endpoint {
	var out []rules.Endpoint
	for _, s := range st.byService[objectName{o.Namespace, o.Name}] {
		if s.family != o.Family {
			continue
		}
		for _, p := range s.ports {
			if p.name != o.Port || p.protocol != protocol {
				continue
			}
			for _, e := range s.endpoints {
				out = append(out, rules.Endpoint{Addr: netip.AddrPortFrom(e.addr, p.port),
					Ready: e.ready, Serving: e.serving, Terminating: e.terminating, Local: e.local})
			}
		}
	}
	return out
}
