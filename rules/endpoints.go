// SPDX-License-Identifier: Apache-2.0

package rules

import "slices"

// Usable is which endpoints of a service port get new connections on a node. The
// lists are sorted by address and name each address once.
type Usable struct {
	// Cluster is for the traffic policy Cluster: the endpoints that the node
	// prefers by their hints (KEP-2433, KEP-3015).
	Cluster []Endpoint
	// Local is for the traffic policy Local: those on the node.
	Local []Endpoint
	// Anywhere says that some endpoint could be used, if not by this node: then
	// connections that this node must not forward are dropped, not refused.
	Anywhere bool
}

// SelectEndpoints returns the endpoints that a node uses, by kube-proxy's rules: ready
// ones; where a policy has none, those that are terminating and still serving
// (KEP-1669, for each policy by itself).
func SelectEndpoints(sp *ServicePort, endpoints []Endpoint, n *Node) Usable {
	var u Usable
	ready := func(e *Endpoint) bool { return e.Ready }
	leaving := func(e *Endpoint) bool { return e.Serving && e.Terminating }
	if !sp.InternalLocal || sp.External() {
		preferred := topology(endpoints, n)
		u.Cluster = pick(endpoints, ready, func(e *Endpoint) bool { return preferred.admits(e, n) })
		if len(u.Cluster) == 0 {
			u.Cluster = pick(endpoints, leaving)
		}
		u.Anywhere = len(u.Cluster) > 0
	}
	if sp.InternalLocal || sp.ExternalLocal && sp.External() {
		local := func(e *Endpoint) bool { return e.Local }
		u.Local = pick(endpoints, ready, local)
		if len(u.Local) == 0 {
			u.Local = pick(endpoints, leaving, local)
		}
		u.Anywhere = u.Anywhere || slices.ContainsFunc(endpoints, func(e Endpoint) bool { return ready(&e) || leaving(&e) })
	}
	return u
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

// pick returns the endpoints that all conditions hold for.
func pick(endpoints []Endpoint, conditions ...func(*Endpoint) bool) []Endpoint {
	var out []Endpoint
next:
	for i := range endpoints {
		for _, holds := range conditions {
			if !holds(&endpoints[i]) {
				continue next
			}
		}
		if out == nil {
			out = make([]Endpoint, 0, len(endpoints)-i)
		}
		out = append(out, endpoints[i])
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return a.Addr.Compare(b.Addr) })
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
			continue
		}
		sorted[n] = e
		n++
	}
	return sorted[:n]
}
