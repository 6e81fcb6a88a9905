// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// store holds all services and slices, and which owners have changed since they
// were last taken.
type store struct {
	services map[ObjectName]*service
	slices   map[ObjectName]*slice
	// byService finds the slices of a service.
	byService map[ObjectName][]*slice
	frontends claims
	// changed has the owners that have changed; false: nothing but the shares of their endpoints.
	changed map[rules.Owner]bool
	over    Excess // of all services
	// unaddressed has the Services without an address of their own, and why they have none.
	unaddressed map[ObjectName]reason.Code
	shares      shares
}

func newStore() *store {
	st := &store{
		services:    map[ObjectName]*service{},
		slices:      map[ObjectName]*slice{},
		byService:   map[ObjectName][]*slice{},
		changed:     map[rules.Owner]bool{},
		unaddressed: map[ObjectName]reason.Code{},
		shares:      newShares(),
	}
	st.frontends = newClaims(st.mark)
	return st
}

// setService stores a service, or with nil forgets it, marks the owners that this
// changes, and says whether there are any.
func (st *store) setService(n ObjectName, s *service) (any bool) {
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
	st.ask(n, s.asks()-old.asks())
	st.welcome(n)
	if s != nil && (s.policies.Scheduler.Counts() || s.choices.slowStart > 0) {
		st.shares.poke() // it may have asked for something else of the same number before
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
			st.changed[o] = true
		}
	}
}

// markAll notes all owners as changed.
func (st *store) markAll() {
	for n, s := range st.services {
		eachOwner(n, s, func(o rules.Owner, _ rules.ServicePort) { st.mark(o) })
	}
}

// servicePort returns the service port of an owner; its zero value if there is none.
func (st *store) servicePort(o rules.Owner) rules.ServicePort {
	n := ObjectName{o.Namespace, o.Name}
	sp, _ := portOf(st.services[n], o)
	return sp
}

// setSlice stores a slice, or with nil forgets it, marks the owners whose endpoints it
// changes, and says whether it has changed.
func (st *store) setSlice(n ObjectName, s *slice) bool {
	old := st.slices[n]
	if old.equal(s) { // but for names, which only those want who ask
		for i := range s.endpoints {
			old.endpoints[i].at, old.endpoints[i].pod = s.endpoints[i].at, s.endpoints[i].pod
		}
		return false
	}
	if old == nil && s == nil {
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
	for _, s := range [...]*slice{old, s} {
		if s != nil {
			st.welcome(s.service)
		}
	}
	if old != nil {
		st.ask(old.service, -old.asks())
	}
	if s != nil {
		st.ask(s.service, s.asks())
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
				ServicePortName: rules.ServicePortName{Namespace: s.service.Namespace, Name: s.service.Name, Port: p.name},
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
func (st *store) take() []Changed {
	if len(st.changed) == 0 {
		return nil
	}
	out := make([]Changed, 0, len(st.changed))
	for o, more := range st.changed {
		out = append(out, Changed{o, st.servicePort(o).Port == 0, !more})
	}
	st.changed = map[rules.Owner]bool{} // after a full load the old one is large
	slices.SortFunc(out, func(a, b Changed) int { return a.Owner.Compare(b.Owner) })
	return out
}

// input returns what an owner's objects are built from, as it is now.
func (st *store) input(o rules.Owner) Input {
	in := Input{Owner: o, Port: st.servicePort(o)}
	if in.Port.Port == 0 {
		in.Port = rules.ServicePort{Name: o.ServicePortName, Family: o.Family}
		return in
	}
	if lost := st.frontends.withhold(&in.Port, o); len(lost) > 0 {
		in.Lost = make([]Conflict, len(lost))
		for i, cl := range lost {
			in.Lost[i] = st.frontends.conflictOf(cl)
		}
	}
	in.Port.SlotLimit = st.slotLimit(ServiceOf(o))
	in.Endpoints = st.endpoints(o, in.Port.Protocol)
	return in
}

// localReady returns how many ready endpoints of a service are on this node, by
// family. As in kube-proxy each address counts once, whatever its ports, and none of a slice without
// ports; and one that is terminating counts only where no other has its address and port.
func (st *store) localReady(n ObjectName) (count [2]int) {
	seen := map[netip.Addr]bool{}
	var taken map[served]bool
	for _, s := range st.byService[n] {
		if len(s.ports) == 0 {
			continue
		}
		for i := range s.endpoints {
			e := &s.endpoints[i]
			if !e.ready || !e.local || seen[e.addr()] {
				continue
			}
			if e.terminating {
				if taken == nil {
					taken = st.taken(n)
				}
				if !slices.ContainsFunc(s.ports, func(p servicePort) bool { return !taken[served{e.addr(), p}] }) {
					continue
				}
			}
			seen[e.addr()] = true
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
func (st *store) taken(n ObjectName) map[served]bool {
	out := map[served]bool{}
	for _, s := range st.byService[n] {
		for i := range s.endpoints {
			e := &s.endpoints[i]
			if e.terminating {
				continue
			}
			for _, p := range s.ports {
				out[served{e.addr(), p}] = true
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
	n := ServiceOf(o)
	for _, s := range st.byService[n] {
		if s.family != o.Family {
			continue
		}
		for _, p := range s.ports.named(o.Port) {
			if p.protocol != protocol {
				continue
			}
			out = slices.Grow(out, len(s.endpoints))
			for i := range s.endpoints {
				e := &s.endpoints[i]
				usable := rules.Endpoint{Addr: netip.AddrPortFrom(e.addr(), p.port),
					Ready: e.ready, Serving: e.serving, Terminating: e.terminating, Local: e.local, NodeUnknown: e.nodeUnknown}
				usable.Weighting = rules.Weighting{Weight: uint32(s.weight), Idle: s.idle, Zone: e.place().zone}
				st.weighting(n, &usable, protocol)
				if e.hints != nil {
					usable.NodeHints, usable.ZoneHints = e.hints.nodes, e.hints.zones
				}
				out = append(out, usable)
			}
		}
	}
	return out
}
