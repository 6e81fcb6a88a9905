// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/rules"
)

// objectName is the namespace and name of a Service or an EndpointSlice.
type objectName struct{ namespace, name string }

func (n objectName) String() string { return n.namespace + "/" + n.name }

// service is what proxying needs of a Service. Keep it so: there are thousands.
// Arrays are by family.
type service struct {
	created       time.Time
	uid           types.UID
	clusterIPs    [2]netip.Addr
	externalIPs   [2][]netip.Addr
	loadBalancers [2][]netip.Addr
	sourceRanges  [2][]netip.Prefix
	ports         []servicePort
	internalLocal bool
	externalLocal bool
	affinity      uint32 // seconds
	scheduler     rules.Scheduler
	healthPort    uint16 // healthCheckNodePort
}

type servicePort struct {
	name     string
	protocol rules.Protocol
	port     uint16
	nodePort uint16 // of a Service only
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
	local, nodeUnknown          bool
	hints                       *hints // nil: none
}

// hints name the nodes and zones that an endpoint is meant for.
type hints struct{ nodes, zones []string }

func (e endpoint) equal(o endpoint) bool {
	return e.addr == o.addr && e.ready == o.ready && e.serving == o.serving && e.terminating == o.terminating &&
		e.local == o.local && e.nodeUnknown == o.nodeUnknown && e.hints.equal(o.hints)
}

func (h *hints) equal(o *hints) bool {
	if h == nil || o == nil {
		return h == o
	}
	return slices.Equal(h.nodes, o.nodes) && slices.Equal(h.zones, o.zones)
}

func (s *slice) equal(o *slice) bool {
	return s != nil && o != nil && s.service == o.service && s.family == o.family &&
		slices.Equal(s.ports, o.ports) && slices.EqualFunc(s.endpoints, o.endpoints, endpoint.equal)
}

// store holds all services and slices, and which owners have changed since they
// were last taken.
type store struct {
	services map[objectName]*service
	slices   map[objectName]*slice
	// byService finds the slices of a service.
	byService map[objectName][]*slice
	frontends claims
	changed   map[rules.Owner]struct{}
}

func newStore() *store {
	return &store{
		services:  map[objectName]*service{},
		slices:    map[objectName]*slice{},
		byService: map[objectName][]*slice{},
		frontends: newClaims(),
		changed:   map[rules.Owner]struct{}{},
	}
}

// setService stores a service, or with nil forgets it, marks the owners that this
// changes, and says whether there are any.
func (st *store) setService(n objectName, s *service) (any bool) {
	old := st.services[n]
	if s == nil {
		delete(st.services, n)
	} else {
		st.services[n] = s
	}
	changed := map[rules.Owner]bool{}
	note := func(o rules.Owner, sp rules.ServicePort, other *service) {
		was, ok := portOf(other, o)
		changed[o] = !ok || !was.Equal(&sp) || !sameAge(old, s) || old.healthPort != s.healthPort
		any = any || changed[o]
	}
	eachOwner(n, old, func(o rules.Owner, sp rules.ServicePort) { note(o, sp, s) })
	eachOwner(n, s, func(o rules.Owner, sp rules.ServicePort) { note(o, sp, old) })
	eachOwner(n, old, func(o rules.Owner, sp rules.ServicePort) {
		if changed[o] {
			st.mark(o)
			for _, f := range frontendsOf(&sp) {
				st.mark(st.frontends.release(f, o))
			}
		}
	})
	eachOwner(n, s, func(o rules.Owner, sp rules.ServicePort) {
		if changed[o] {
			st.mark(o)
			for _, f := range frontendsOf(&sp) {
				st.mark(st.frontends.claim(f, claimant{o, s.created}))
			}
		}
	})
	return any
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

// markAll notes all owners as changed.
func (st *store) markAll() {
	for n, s := range st.services {
		eachOwner(n, s, func(o rules.Owner, _ rules.ServicePort) { st.mark(o) })
	}
}

// eachOwner calls fn for each service port and family of a service.
func eachOwner(n objectName, s *service, fn func(rules.Owner, rules.ServicePort)) {
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
	f := o.Family
	if !ok || !s.clusterIPs[f].IsValid() {
		return rules.ServicePort{}, false
	}
	return rules.ServicePort{
		Name: o.ServicePortName, Family: f, Protocol: p.protocol,
		ClusterIP: s.clusterIPs[f], Port: p.port, NodePort: p.nodePort,
		ExternalIPs: s.externalIPs[f], LoadBalancerIPs: s.loadBalancers[f], SourceRanges: s.sourceRanges[f],
		InternalLocal: s.internalLocal, ExternalLocal: s.externalLocal,
		Affinity: s.affinity, Scheduler: s.scheduler,
	}, true
}

// servicePort returns the service port of an owner; its zero value if there is none.
func (st *store) servicePort(o rules.Owner) rules.ServicePort {
	n := objectName{o.Namespace, o.Name}
	sp, _ := portOf(st.services[n], o)
	return sp
}

// setSlice stores a slice, or with nil forgets it, marks the owners whose endpoints it
// changes, and says whether it has changed.
func (st *store) setSlice(n objectName, s *slice) bool {
	old := st.slices[n]
	if old == nil && s == nil || old.equal(s) {
		return false
	}
	if old != nil {
		st.markSlice(old)
		delete(st.slices, n)
		rest := slices.DeleteFunc(st.byService[old.service], func(s *slice) bool { return s == old })
		if st.byService[old.service] = rest; len(rest) == 0 {
			delete(st.byService, old.service)
		}
	}
	if s != nil {
		st.markSlice(s)
		st.slices[n] = s
		st.byService[s.service] = append(st.byService[s.service], s)
	}
	return true
}

func (st *store) markSlice(s *slice) {
	svc := st.services[s.service]
	if svc != nil && svc.healthPort != 0 {
		// localReady counts the endpoints of other ports, too.
		eachOwner(s.service, svc, func(o rules.Owner, _ rules.ServicePort) { st.mark(o) })
		return
	}
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
	st.changed = map[rules.Owner]struct{}{} // after a full load the old one is large
	slices.SortFunc(out, compareOwners)
	return out
}

func compareOwners(a, b rules.Owner) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Family, b.Family))
}

// input returns what rules.Build needs for an owner, and the frontends that it
// must do without because older services have them. An owner that is gone has a
// service port without a port.
func (st *store) input(o rules.Owner) (rules.ServicePort, []rules.Endpoint, []frontend) {
	sp := st.servicePort(o)
	if sp.Port == 0 {
		return rules.ServicePort{Name: o.ServicePortName, Family: o.Family}, nil, nil
	}
	lost := st.frontends.withhold(&sp, o)
	return sp, st.endpoints(o, sp.Protocol), lost
}

// localReady returns how many ready endpoints of a service are on this node, by
// family.
func (st *store) localReady(n objectName) (count [2]int) {
	seen := map[netip.Addr]bool{}
	for _, s := range st.byService[n] {
		if len(s.ports) == 0 {
			continue // as kube-proxy
		}
		for _, e := range s.endpoints {
			if e.ready && e.local && !seen[e.addr] {
				seen[e.addr] = true
				count[s.family]++
			}
		}
	}
	return count
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
			out = slices.Grow(out, len(s.endpoints))
			for _, e := range s.endpoints {
				usable := rules.Endpoint{Addr: netip.AddrPortFrom(e.addr, p.port),
					Ready: e.ready, Serving: e.serving, Terminating: e.terminating, Local: e.local, NodeUnknown: e.nodeUnknown}
				if e.hints != nil {
					usable.NodeHints, usable.ZoneHints = e.hints.nodes, e.hints.zones
				}
				out = append(out, usable)
			}
		}
	}
	return out
}
