// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// explained returns the endpoints of a port, and why they get connections or not; nothing, if only the kernel is known.
func (w *World) explained(p *proxier.Port) []rules.ExplainedEndpoint {
	if w.FromKernel {
		return nil
	}
	return rules.ExplainEndpoints(&p.ServicePort, p.Endpoints, &w.Node)
}

// EndpointsOf returns the endpoints of a port, and why they get connections or not; not what shares they get.
func EndpointsOf(w *World, p *proxier.Port) []Endpoint {
	return endpointsOf(w, p, w.explained(p), func(*proxier.Port, *Endpoint, *rules.ExplainedEndpoint) {})
}

func endpointsOf(w *World, p *proxier.Port, explained []rules.ExplainedEndpoint, share func(*proxier.Port, *Endpoint, *rules.ExplainedEndpoint)) []Endpoint {
	out := []Endpoint{}
	for _, j := range explained {
		d := w.details(p, &j.Endpoint)
		e := Endpoint{Address: j.Addr.String(), Pod: d.Pod, Node: d.Node, Zone: d.Zone,
			Here: j.Endpoint.Local, Cluster: j.Cluster, Local: j.Local}
		e.Why, e.Codes = why(p, j)
		share(p, &e, &j)
		out = append(out, e)
	}
	return out
}

// why puts the reasons of both policies together.
func why(p *proxier.Port, j rules.ExplainedEndpoint) (text string, codes []reason.Code) {
	cluster, local := j.WhyNotCluster, j.WhyNotLocal
	one := func(g reason.Given, text string) (string, []reason.Code) { return text, []reason.Code{g.Code} }
	switch neither := !j.Cluster && !j.Local; {
	case cluster == local && cluster.Code == 0:
		return "", nil
	case cluster == local,
		neither && cluster.Code != 0 && (local.Code == 0 || !j.Endpoint.Ready):
		return one(cluster, cluster.Text)
	case neither && cluster.Code == 0:
		return one(local, local.Text)
	case j.Cluster:
		return one(local, fmt.Sprintf("%s, so not for %s Local", local.Text, localPolicies(p)))
	case j.Local:
		return one(cluster, fmt.Sprintf("for %s Local only: else %s", localPolicies(p), cluster.Text))
	}
	return cluster.Text + "; " + local.Text, []reason.Code{cluster.Code, local.Code}
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
