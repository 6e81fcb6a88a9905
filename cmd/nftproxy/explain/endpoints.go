// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// endpoints returns the endpoints of a port and why they count or not.
func (w *World) endpoints(p *proxier.Port) []Endpoint {
	out := []Endpoint{}
	for _, j := range rules.Judge(&p.ServicePort, p.Endpoints, &w.Node) {
		d := w.details(p, &j.Endpoint)
		out = append(out, Endpoint{Address: j.Addr.String(), Pod: d.Pod, Node: d.Node, Zone: d.Zone,
			Here: j.Endpoint.Local, Cluster: j.Cluster, Local: j.Local, Why: why(p, j)})
	}
	return out
}

// why puts the reasons of both policies together.
func why(p *proxier.Port, j rules.Judged) string {
	switch {
	case j.WhyNotCluster == "" && j.WhyNotLocal == "", j.WhyNotCluster == j.WhyNotLocal:
		return j.WhyNotCluster
	case !j.Cluster && !j.Local && j.WhyNotLocal == "":
		return j.WhyNotCluster
	case !j.Cluster && !j.Local && (j.WhyNotCluster == "" || !j.Endpoint.Ready):
		if j.WhyNotCluster != "" {
			return j.WhyNotCluster
		}
		return j.WhyNotLocal
	case j.Cluster:
		return fmt.Sprintf("%s, so not for %s Local", j.WhyNotLocal, localPolicies(p))
	case j.Local:
		return fmt.Sprintf("for %s Local only: else %s", localPolicies(p), j.WhyNotCluster)
	}
	return j.WhyNotCluster + "; " + j.WhyNotLocal
}

func localPolicies(p *proxier.Port) string {
	switch {
	case p.InternalLocal && p.ExternalLocal:
		return "internalTrafficPolicy and externalTrafficPolicy"
	case p.InternalLocal:
		return "internalTrafficPolicy"
	}
	return "externalTrafficPolicy"
}
