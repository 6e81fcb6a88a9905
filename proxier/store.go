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
// Arrays are by family. No address is twice among the three kinds of them.
type service struct {
	created       time.Time
	uid           types.UID
	clusterIPs    [2]netip.Addr
	externalIPs   [2][]netip.Addr
	loadBalancers [2][]netip.Addr
	sourceRanges  [2][]netip.Prefix
	ports         ports
	internalLocal bool
	externalLocal bool
	affinity      uint32 // seconds
	scheduler     rules.Scheduler
	healthPort    uint16 // healthCheckNodePort
	over          excess // what it asks for beyond the bounds
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
		s.internalLocal != o.internalLocal || s.externalLocal != o.externalLocal ||
		s.affinity != o.affinity || s.scheduler != o.scheduler || endpointLimit(len(s.ports)) != endpointLimit(len(o.ports)) {
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
	service   objectName
	family    rules.Family
	ports     ports // name, protocol and port of the endpoints
	endpoints []endpoint
	at        int // in store.byService
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
	over      excess // of all services
}

func newStore() *store {
	st := &store{
		services:  map[objectName]*service{},
		slices:    map[objectName]*slice{},
		byService: map[objectName][]*slice{},
		changed:   map[rules.Owner]struct{}{},
	}
	st.frontends = newClaims(st.mark)
	return st
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
	if old != nil {
		st.over.add(old.over, -1)
	}
	if s != nil {
		st.over.add(s.over, +1)
	}
	alike := old.alike(s)
	changed := func(o rules.Owner) bool {
		if !alike[o.Family] {
			return true
		}
		was, had := old.port(o.Port)
		now, has := s.port(o.Port)
		return had != has || was != now
	}
	eachOwner(n, old, func(o rules.Owner, sp rules.ServicePort) {
		if !changed(o) {
			return
		}
		any = true
		st.mark(o)
		for _, c := range claimsOf(&sp) {
			st.frontends.release(c.Frontend, claimant{o, old.created, c.class})
		}
	})
	eachOwner(n, s, func(o rules.Owner, sp rules.ServicePort) {
		if !changed(o) {
			return
		}
		any = true
		st.mark(o)
		for _, c := range claimsOf(&sp) {
			st.frontends.claim(c.Frontend, claimant{o, s.created, c.class})
		}
	})
	return any
}

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
		if !s.clusterIPs[f].IsValid() {
			continue
		}
		for _, p := range s.ports {
			o := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: n.namespace, Name: n.name, Port: p.name}, Family: f}
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
		InternalLocal: s.internalLocal, ExternalLocal: s.externalLocal,
		Affinity: s.affinity, Scheduler: s.scheduler, EndpointLimit: endpointLimit(len(s.ports)),
	}
	if p.plain {
		if sp.Affinity = 0; len(sp.SourceRanges) > 0 {
			sp.LoadBalancerIPs = nil
		}
	}
	return sp
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
		st.unlist(old)
	}
	if s != nil {
		st.markSlice(s)
		st.slices[n] = s
		s.at = len(st.byService[s.service])
		st.byService[s.service] = append(st.byService[s.service], s)
	}
	return true
}

// unlist takes a slice from those of its service, whose order does not matter: there may be thousands.
func (st *store) unlist(s *slice) {
	list := st.byService[s.service]
	last := len(list) - 1
	list[s.at] = list[last]
	list[s.at].at = s.at
	list[last] = nil
	if st.byService[s.service] = list[:last]; last == 0 {
		delete(st.byService, s.service)
	}
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

// setAPIServers says where this node reaches its API server, and whether that is news.
func (st *store) setAPIServers(list []netip.AddrPort) (news bool) {
	st.markHealthPorts()
	news = st.frontends.setAPIServers(list)
	st.markHealthPorts()
	return news
}

// setNodeAddrs says which addresses serve NodePorts.
func (st *store) setNodeAddrs(list []netip.Addr) {
	st.markHealthPorts()
	st.frontends.setNodeAddrs(list)
	st.markHealthPorts()
}

// markHealthPorts marks the owners of services whose healthCheckNodePort is refused.
func (st *store) markHealthPorts() {
	if len(st.frontends.apiServers) == 0 {
		return
	}
	for n, s := range st.services {
		if st.refusesHealthPort(s) {
			eachOwner(n, s, func(o rules.Owner, _ rules.ServicePort) { st.mark(o) })
		}
	}
}

// refusesHealthPort says whether this node's own API server is at a service's healthCheckNodePort: if nftproxy listened
// there, the API server could not start again.
func (st *store) refusesHealthPort(s *service) bool {
	return s.healthPort != 0 && slices.ContainsFunc(rules.Families[:], func(f rules.Family) bool {
		return st.frontends.refuses(rules.NodePort(f, rules.TCP, s.healthPort))
	})
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

// input returns what rules.Build needs for an owner, and what it must do without
// because others get it. An owner that is gone has a
// service port without a port.
func (st *store) input(o rules.Owner) (rules.ServicePort, []rules.Endpoint, []claim) {
	sp := st.servicePort(o)
	if sp.Port == 0 {
		return rules.ServicePort{Name: o.ServicePortName, Family: o.Family}, nil, nil
	}
	lost := st.frontends.withhold(&sp, o)
	return sp, st.endpoints(o, sp.Protocol), lost
}

// localReady returns how many ready endpoints of a service are on this node, by
// family. As in kube-proxy each address counts once, whatever its ports, and none of a slice without
// ports; and one that is terminating counts only where no other has its address and port.
func (st *store) localReady(n objectName) (count [2]int) {
	seen := map[netip.Addr]bool{}
	var taken map[served]bool
	for _, s := range st.byService[n] {
		if len(s.ports) == 0 {
			continue
		}
		for _, e := range s.endpoints {
			if !e.ready || !e.local || seen[e.addr] {
				continue
			}
			if e.terminating {
				if taken == nil {
					taken = st.taken(n)
				}
				if !slices.ContainsFunc(s.ports, func(p servicePort) bool { return !taken[served{e.addr, p}] }) {
					continue
				}
			}
			seen[e.addr] = true
			count[s.family]++
		}
	}
	return count
}

// served is a port of an endpoint.
type served struct {
	addr netip.Addr
	port servicePort
}

// taken returns what endpoints of a service serve that are not terminating.
func (st *store) taken(n objectName) map[served]bool {
	out := map[served]bool{}
	for _, s := range st.byService[n] {
		for _, e := range s.endpoints {
			if e.terminating {
				continue
			}
			for _, p := range s.ports {
				out[served{e.addr, p}] = true
			}
		}
	}
	return out
}

// serving returns the endpoints of an owner that flows may go to that are there already, and those that
// are in its slices but do not serve.
func (st *store) serving(o rules.Owner, protocol rules.Protocol) (serving, unready []netip.AddrPort) {
	for _, e := range rules.WithoutGhosts(st.endpoints(o, protocol)) {
		if e.Serving || e.Ready {
			serving = append(serving, e.Addr)
		} else {
			unready = append(unready, e.Addr)
		}
	}
	return serving, unready
}

// endpoints returns the endpoints of an owner, as its slices have them.
func (st *store) endpoints(o rules.Owner, protocol rules.Protocol) []rules.Endpoint {
	var out []rules.Endpoint
	for _, s := range st.byService[objectName{o.Namespace, o.Name}] {
		if s.family != o.Family {
			continue
		}
		for _, p := range s.ports.named(o.Port) {
			if p.protocol != protocol {
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
