// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// mostFrontends is how many frontends of a port are explained.
const mostFrontends = 200

// Explain explains a target to some clients; to none: to those that there may be.
func (w *World) Explain(target Target, clients []Client) (*Explanation, error) {
	ports, err := w.find(target)
	if err != nil {
		return nil, err
	}
	out := &Explanation{Target: printable.Line(target.Text), Node: NodeView{printable.Word(w.Node.Name), printable.Word(w.Node.Zone)}}
	for _, p := range ports {
		if len(w.clientsOf(p, clients)) == 0 {
			continue
		}
		explained, err := w.port(p, target, clients)
		if err != nil {
			return nil, err
		}
		out.Ports = append(out.Ports, explained)
	}
	if len(out.Ports) == 0 {
		return nil, fmt.Errorf("no client has an address in the families of %s: choose another with --from", target.Text)
	}
	name := ports[0].Name
	out.Notes = notes(w.Notes[name.Namespace+"/"+name.Name])
	out.Kernel = w.kernel(name)
	return out, nil
}

// Lines returns about how many lines an explanation of a target to some clients would have: one for each endpoint that each of
// them may reach at each frontend.
func Lines(w *World, target Target, clients []Client) int {
	ports, err := w.find(target)
	if err != nil {
		return 0
	}
	lines := 0
	for _, p := range ports {
		lines += min(len(w.frontends(p, target)), mostFrontends) * len(w.clientsOf(p, clients)) * (1 + len(p.Endpoints))
	}
	return lines
}

// notes makes some of what is said of a Service printable, and counts the rest.
func notes(list []string) []string {
	const most = 20
	var out []string
	for _, note := range list[:min(most, len(list))] {
		out = append(out, printable.Line(note))
	}
	if more := len(list) - most; more > 0 {
		out = append(out, fmt.Sprintf("and %d more that is not served", more))
	}
	return out
}

// kernel compares what the kernel holds for a Service with what it should.
func (w *World) kernel(name rules.ServicePortName) Kernel {
	if w.Have == nil || w.FromKernel {
		return Kernel{Problem: printable.Line(w.Problem)}
	}
	var owned []rules.Owned
	for i := range w.Ports {
		if p := &w.Ports[i]; p.Name.Namespace == name.Namespace && p.Name.Name == name.Name {
			owned = append(owned, rules.Owned{Owner: p.Owner(), Objects: p.Objects})
		}
	}
	have, want := *w.Have, w.State
	list := rules.Differences(have.Select(name.Namespace, name.Name, owned), want.Select(name.Namespace, name.Name, owned))
	if !w.Alone {
		list = slices.Concat(rules.Differences(have.Common(), want.Common()), list)
	}
	equal := len(list) == 0
	return Kernel{Holds: &equal, Differences: list}
}

// port explains a service port.
func (w *World) port(p *proxier.Port, target Target, clients []Client) (Port, error) {
	explained := w.explained(p)
	out := Port{Identity: IdentityOf(p), Policies: w.policies(p, explained)}
	for _, l := range p.Lost {
		out.Lost, out.LostCodes = append(out.Lost, l.Frontend+", "+l.Why.Text), append(out.LostCodes, l.Why.Code)
	}
	out.Endpoints = endpointsOf(w, p, explained, w.share)
	out.Pinned = w.pins(p, clients)
	frontends := w.frontends(p, target)
	if n := len(frontends) - mostFrontends; n > 0 {
		frontends, out.MoreFrontends = frontends[:mostFrontends], n
	}
	for _, f := range frontends {
		for _, c := range w.clientsOf(p, clients) {
			if f.Problem != "" {
				break
			}
			view, err := w.follow(p, f, c)
			if err != nil {
				return Port{}, fmt.Errorf("follow a connection to %s %s: %w", f.Kind, f.Address, err)
			}
			f.Clients = append(f.Clients, view)
		}
		out.Frontends = append(out.Frontends, f)
	}
	return out, nil
}

// IdentityOf names a service port.
func IdentityOf(p *proxier.Port) Identity {
	out := Identity{Port: printable.Word(p.Name.Port), Number: p.Port, Protocol: p.Protocol.String(), Family: p.Family.String()}
	if p.Name.Name != "" {
		out.Service = p.Name.Service()
	}
	return out
}

// policies returns what a Service says of the port's connections, as far as it is known.
func (w *World) policies(p *proxier.Port, explained []rules.ExplainedEndpoint) Policies {
	out := Policies{Affinity: p.Affinity}
	if served := len(w.frontends(p, Target{})) > 0; served && !w.FromKernel {
		out.InternalPolicy, out.Scheduler = policy(p.InternalLocal), p.Scheduler.String()
		out.Failover, out.Table = p.Failover, tableOf(p, explained)
		if p.External() {
			out.ExternalPolicy = policy(p.ExternalLocal)
		}
	}
	if len(p.LoadBalancerIPs) > 0 {
		out.DeniesRanges = p.DenySources && len(p.SourceRanges) > 0
		for _, r := range p.SourceRanges {
			out.SourceRanges = append(out.SourceRanges, r.String())
		}
	}
	return out
}

func policy(local bool) string {
	if local {
		return "Local"
	}
	return "Cluster"
}
