// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
)

// MaxEndpoints is how many endpoints a service port can have; the rest is left
// out. The index shares 32 bits with a part of the owner's identity.
const MaxEndpoints = 1 << 16

// Usable is which endpoints of a service port get new connections on a node. The
// lists name each address once. They are in the order of the endpoints' turns, which
// differs from node to node for round robin, and is that of the addresses else.
type Usable struct {
	// Cluster is for the traffic policy Cluster: the endpoints that the node
	// prefers by their hints (KEP-2433, KEP-3015).
	Cluster []Endpoint
	// Local is for the traffic policy Local: those on the node.
	Local []Endpoint
	// ClusterEjected and LocalEjected are those that the lists do without because they do not answer.
	ClusterEjected, LocalEjected []Ejected
	// Anywhere says that some endpoint could be used, if not by this node: then
	// connections that this node must not forward are dropped, not refused.
	Anywhere bool
	// Watched are, with failover, the addresses of both lists as if all endpoints answered, sorted.
	Watched []netip.AddrPort
}

// SelectEndpoints returns the endpoints that a node uses, by kube-proxy's rules: ready
// ones; where a policy has none, those that are terminating and still serving
// (KEP-1669, for each policy by itself). Of one address the entries that are not
// terminating count, as WithoutGhosts says.
func SelectEndpoints(sp *ServicePort, endpoints []Endpoint, n *Node) Usable {
	var u Usable
	endpoints = WithoutGhosts(endpoints)
	ready := func(e *Endpoint) bool { return e.Ready }
	leaving := func(e *Endpoint) bool { return e.Serving && e.Terminating }
	turns := turnsOf(sp, n)
	if !sp.InternalLocal || sp.External() {
		preferred := topology(endpoints, n)
		u.Cluster = turns.pick(endpoints, ready, func(e *Endpoint) bool { return preferred.admits(e, n) })
		if len(u.Cluster) == 0 {
			u.Cluster = turns.pick(endpoints, leaving)
		}
		u.Anywhere = len(u.Cluster) > 0
		u.watch(sp, u.Cluster)
		u.Cluster, u.ClusterEjected = sp.withoutEjected(u.Cluster)
	}
	if sp.InternalLocal || sp.ExternalLocal && sp.External() {
		local := func(e *Endpoint) bool { return e.Local }
		u.Local = turns.pick(endpoints, ready, local)
		if len(u.Local) == 0 {
			u.Local = turns.pick(endpoints, leaving, local)
		}
		u.watch(sp, u.Local)
		u.Local, u.LocalEjected = sp.withoutEjected(u.Local)
		u.Anywhere = u.Anywhere || slices.ContainsFunc(endpoints, func(e Endpoint) bool { return ready(&e) || leaving(&e) })
	}
	u.Cluster, u.Local = weigh(sp, u.Cluster, n), weigh(sp, u.Local, n)
	return u
}

// WithoutGhosts leaves out terminating endpoints whose address and port others have that are not
// terminating: a pod may get the address of one that has not quite gone. As in kube-proxy, the running
// pod alone decides, ready or not. The result may share endpoints' memory.
func WithoutGhosts(endpoints []Endpoint) []Endpoint {
	leaving := map[netip.AddrPort]bool{}
	for i := range endpoints {
		if endpoints[i].Terminating {
			leaving[endpoints[i].Addr] = false
		}
	}
	if len(leaving) == 0 || len(leaving) == len(endpoints) {
		return endpoints
	}
	ghosts := false
	for i := range endpoints {
		if e := &endpoints[i]; !e.Terminating {
			if _, ok := leaving[e.Addr]; ok {
				leaving[e.Addr], ghosts = true, true // somebody else's now
			}
		}
	}
	if !ghosts {
		return endpoints
	}
	out := make([]Endpoint, 0, len(endpoints))
	for i := range endpoints {
		if e := &endpoints[i]; !e.Terminating || !leaving[e.Addr] {
			out = append(out, *e)
		}
	}
	return out
}

// preference says by which hints a node chooses among ready endpoints.
type preference uint8

const (
	noPreference preference = iota
	byNode
	byZone
)

// admits says whether a ready endpoint is meant for the node.
func (p preference) admits(e *Endpoint, n *Node) bool {
	switch p {
	case byNode:
		return slices.Contains(e.NodeHints, n.Name)
	case byZone:
		return slices.Contains(e.ZoneHints, n.Zone)
	}
	return true
}

// topology returns how a node chooses among the ready endpoints. Hints count only
// if every ready endpoint has them and one is meant for this node: for its name, or
// else for its zone.
func topology(endpoints []Endpoint, n *Node) preference {
	any, allNode, allZone, forNode, forZone := false, true, true, false, false
	for i := range endpoints {
		e := &endpoints[i]
		if !e.Ready {
			continue
		}
		any = true
		allNode = allNode && len(e.NodeHints) > 0
		allZone = allZone && len(e.ZoneHints) > 0
		forNode = forNode || byNode.admits(e, n)
		forZone = forZone || byZone.admits(e, n)
	}
	switch {
	case any && allNode && forNode:
		return byNode
	case any && allZone && forZone:
		return byZone
	}
	return noPreference
}

// turns is what endpoints' turns are ordered by; 0: their addresses.
type turns uint64

// turnsOf returns the order of a service port's endpoints on a node. A change of the number
// of endpoints begins the round anew, on all nodes at once: if all had one order, the first
// endpoint would get the next connection of each. The hash of a client is to lead to the same
// endpoint on every node.
func turnsOf(sp *ServicePort, n *Node) turns {
	if !schedulers[sp.Scheduler].turns || n.Name == "" {
		return 0
	}
	h := sha256.Sum256([]byte(n.Name + "\x00" + sp.Name.String()))
	return turns(binary.BigEndian.Uint64(h[:]))
}

// rank returns an endpoint's place among others. It depends on nothing but the endpoint, so
// that a change of one does not change the order of the others.
func (t turns) rank(e *Endpoint) uint64 {
	if t == 0 {
		return 0
	}
	a := e.Addr.Addr().As16()
	h := scramble(uint64(t) ^ binary.BigEndian.Uint64(a[:8]))
	h = scramble(h ^ binary.BigEndian.Uint64(a[8:]))
	return scramble(h ^ uint64(e.Addr.Port()))
}

// scramble makes each bit depend on all (the finalizer of SplitMix64).
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// pick returns the endpoints that all conditions hold for, in order.
func (t turns) pick(endpoints []Endpoint, conditions ...func(*Endpoint) bool) []Endpoint {
	type ranked struct {
		rank uint64
		at   int
	}
	var order []ranked
next:
	for i := range endpoints {
		for _, holds := range conditions {
			if !holds(&endpoints[i]) {
				continue next
			}
		}
		if order == nil {
			order = make([]ranked, 0, len(endpoints)-i)
		}
		order = append(order, ranked{t.rank(&endpoints[i]), i})
	}
	slices.SortFunc(order, func(a, b ranked) int {
		if a.rank != b.rank {
			return cmp.Compare(a.rank, b.rank)
		}
		return cmp.Or(endpoints[a.at].Addr.Compare(endpoints[b.at].Addr), a.at-b.at)
	})
	out := make([]Endpoint, len(order))
	for i, r := range order {
		out[i] = endpoints[r.at]
	}
	return merge(out)
}

// merge drops the second of two equal addresses in a row. The endpoint is local
// if one of them is: only one of the EndpointSlices may say where it is.
func merge(sorted []Endpoint) []Endpoint {
	n := 0
	for _, e := range sorted {
		if n > 0 && sorted[n-1].Addr == e.Addr {
			sorted[n-1].Local = sorted[n-1].Local || e.Local
			sorted[n-1].NodeUnknown = sorted[n-1].NodeUnknown && e.NodeUnknown
			sorted[n-1].Weighting.merge(&e.Weighting)
			continue
		}
		sorted[n] = e
		n++
	}
	return sorted[:n]
}
