// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
)

// Judged is an endpoint, and whether it gets new connections on a node.
type Judged struct {
	Endpoint
	// Cluster and Local say that it gets those under that traffic policy.
	Cluster, Local bool
	// WhyNotCluster and WhyNotLocal say why it gets none under a policy that the
	// service port has; else they are empty.
	WhyNotCluster, WhyNotLocal string
}

// Judge says which endpoints SelectEndpoints has selected, and why not the others.
// The result is sorted by address and names each address once for each reason.
func Judge(sp *ServicePort, endpoints []Endpoint, n *Node) []Judged {
	u := SelectEndpoints(sp, endpoints, n)
	preferred := topology(endpoints, n)
	cluster, local := !sp.InternalLocal || sp.External(), sp.InternalLocal || sp.ExternalLocal && sp.External()
	out := make([]Judged, 0, len(endpoints))
	for _, e := range endpoints {
		j := Judged{Endpoint: e, Cluster: selected(u.Cluster, e), Local: selected(u.Local, e)}
		if cluster && !j.Cluster {
			j.WhyNotCluster = whyNot(&e, u.Cluster, preferred, n)
		}
		if local && !j.Local {
			j.WhyNotLocal = "not on this node"
			if e.Local {
				j.WhyNotLocal = whyNot(&e, u.Local, noPreference, n)
			}
		}
		out = append(out, j)
	}
	slices.SortFunc(out, func(a, b Judged) int { return a.Addr.Compare(b.Addr) })
	return slices.CompactFunc(out, func(a, b Judged) bool {
		return a.Addr == b.Addr && a.WhyNotCluster == b.WhyNotCluster && a.WhyNotLocal == b.WhyNotLocal
	})
}

func selected(list []Endpoint, e Endpoint) bool {
	return slices.ContainsFunc(list, func(o Endpoint) bool {
		return o.Addr == e.Addr && o.Ready == e.Ready && o.Terminating == e.Terminating
	})
}

// whyNot says why an endpoint is not among those that were selected.
func whyNot(e *Endpoint, chosen []Endpoint, preferred preference, n *Node) string {
	switch {
	case !e.Ready && e.Terminating && e.Serving && len(chosen) > 0:
		return "terminating: it counts only where no endpoint is ready"
	case !e.Ready && e.Terminating:
		return "terminating, and serving no more"
	case !e.Ready:
		return "not ready"
	case preferred == byNode:
		return fmt.Sprintf("meant for node %s by its hints; this is node %s", words(e.NodeHints), printable.Word(n.Name))
	case preferred == byZone:
		return fmt.Sprintf("meant for zone %s by its hints; this node is in zone %s", words(e.ZoneHints), printable.Word(n.Zone))
	}
	return "named twice" // and the other one is selected
}

// words lists names that somebody wrote into hints.
func words(names []string) string {
	var out []string
	for _, name := range names {
		out = append(out, printable.Word(name))
	}
	return printable.Line(strings.Join(out, ", "))
}
