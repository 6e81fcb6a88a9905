// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/reason"
)

// ExplainedEndpoint is an endpoint, whether it gets new connections on a node, and why not.
type ExplainedEndpoint struct {
	Endpoint
	// Cluster and Local say that it gets those under that traffic policy.
	Cluster, Local bool
	// WhyNotCluster and WhyNotLocal say why it gets none under a policy that the
	// service port has; else they are none.
	WhyNotCluster, WhyNotLocal reason.Given
	// ClusterShare and LocalShare are what it gets under that policy.
	ClusterShare, LocalShare Share
}

// ExplainEndpoints returns all endpoints, and says which of them SelectEndpoints selects, and why not the others.
// The result is sorted by address, what is terminating last, and names each address once for each reason.
func ExplainEndpoints(sp *ServicePort, endpoints []Endpoint, n *Node) []ExplainedEndpoint {
	u := SelectEndpoints(sp, endpoints, n)
	counted := WithoutGhosts(endpoints)
	preferred := topology(counted, n)
	inCluster, inLocal, taken := placesOf(u.Cluster), placesOf(u.Local), map[netip.AddrPort]bool{}
	for i := range counted {
		taken[counted[i].Addr] = taken[counted[i].Addr] || !counted[i].Terminating
	}
	shares, localShares := sharesOf(sp, u.Cluster, n), sharesOf(sp, u.Local, n)
	cluster, local := !sp.InternalLocal || sp.External(), sp.InternalLocal || sp.ExternalLocal && sp.External()
	out := make([]ExplainedEndpoint, 0, len(endpoints))
	for _, e := range endpoints {
		p := place{e.Addr, e.Ready, e.Terminating}
		j := ExplainedEndpoint{Endpoint: e, Cluster: inCluster[p], Local: inLocal[p]}
		if j.Cluster {
			j.ClusterShare = shares[e.Addr]
		}
		if j.Local {
			j.LocalShare = localShares[e.Addr]
		}
		isGhost := e.Terminating && taken[e.Addr]
		if cluster && !j.Cluster {
			j.WhyNotCluster = whyNot(&e, u.Cluster, u.ClusterEjected, preferred, n)
			if isGhost {
				j.WhyNotCluster = reason.TerminatingReplaced.With()
			}
		}
		if local && !j.Local {
			switch {
			case isGhost:
				j.WhyNotLocal = reason.TerminatingReplaced.With()
			case e.Local:
				j.WhyNotLocal = whyNot(&e, u.Local, u.LocalEjected, noPreference, n)
			default:
				j.WhyNotLocal = reason.NotOnThisNode.With()
			}
		}
		out = append(out, j)
	}
	slices.SortStableFunc(out, func(a, b ExplainedEndpoint) int {
		if c := a.Addr.Compare(b.Addr); c != 0 || a.Terminating == b.Terminating {
			return c
		}
		if a.Terminating {
			return 1
		}
		return -1
	})
	return slices.CompactFunc(out, func(a, b ExplainedEndpoint) bool {
		return a.Addr == b.Addr && a.WhyNotCluster == b.WhyNotCluster && a.WhyNotLocal == b.WhyNotLocal
	})
}

// place is what tells an endpoint that is selected from others of its address.
type place struct {
	addr               netip.AddrPort
	ready, terminating bool
}

func placesOf(list []Endpoint) map[place]bool {
	out := make(map[place]bool, len(list))
	for i := range list {
		out[place{list[i].Addr, list[i].Ready, list[i].Terminating}] = true
	}
	return out
}

// whyNot says why an endpoint is not among those that were selected.
func whyNot(e *Endpoint, chosen []Endpoint, ejected []Ejected, preferred preference, n *Node) reason.Given {
	at := slices.IndexFunc(ejected, func(x Ejected) bool { return x.Addr == e.Addr })
	switch {
	case at >= 0 && ejected[at].Trial:
		return reason.DoesNotAnswerTrial.With()
	case at >= 0:
		return reason.DoesNotAnswer.With()
	case !e.Ready && e.Terminating && e.Serving && len(chosen) > 0:
		return reason.TerminatingStandby.With()
	case !e.Ready && e.Terminating:
		return reason.Terminating.With()
	case !e.Ready:
		return reason.NotReady.With()
	case e.Idle:
		return reason.WeightZero.With()
	case e.Settling:
		return reason.Settling.With()
	case preferred == byNode:
		return reason.MeantForNode.With(words(e.NodeHints), printable.Word(n.Name))
	case preferred == byZone:
		return reason.MeantForZone.With(words(e.ZoneHints), printable.Word(n.Zone))
	}
	return reason.NamedTwice.With() // and the other one is selected
}

// words lists names that somebody wrote into hints.
func words(names []string) string {
	var out []string
	for _, name := range names {
		out = append(out, printable.Word(name))
	}
	return printable.Line(strings.Join(out, ", "))
}
