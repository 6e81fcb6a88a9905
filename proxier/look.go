// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Looker tells what the Proxier knows of Services. It may be asked at any time.
func (p *Proxier) Looker() cluster.Looker { return cluster.NewLooker(p.cluster) }

// PortAt names the service port that has a frontend.
func (p *Proxier) PortAt(f rules.Frontend) (rules.ServicePortName, bool) {
	holder, ok := p.cluster.Holder(f)
	return holder.ServicePortName, ok
}

// ServedAt names the service port whose endpoints connections to a frontend go to; a NodePort's frontends have the node's
// addresses. It may be called at any time.
func (p *Proxier) ServedAt(f rules.Frontend) (rules.ServicePortName, bool) {
	o := p.cluster.ServedBy(f)
	return o.ServicePortName, o.Name != ""
}

// Service is one Service, as it is programmed or is about to be.
type Service struct {
	// Snapshot has nothing of other Services.
	Snapshot
	cluster.Look
	// Things are what the kernel should have of it; none: so many that everything has to be read.
	Things []rules.Thing
}

// Ports returns a Service without objects; false: none of this name is served here. It may be called at any time: programming
// waits for it no longer than it takes to copy the endpoints of one service port.
func (p *Proxier) Ports(n cluster.ObjectName) (Service, bool) {
	look, ok := p.Looker().Look(n, true)
	out := Service{Look: look, Snapshot: Snapshot{Config: p.config.Rules, Node: p.Looker().Node()}}
	for i := range look.Inputs {
		out.Ports = append(out.Ports, p.port(&look.Inputs[i]))
	}
	return out, ok
}

// Service returns a Service with its objects, as Ports does.
func (p *Proxier) Service(n cluster.ObjectName) (Service, bool) {
	out, ok := p.Ports(n)
	desired := rules.NewDesired(out.Config, out.Node)
	var owned []rules.Owned
	for i := range out.Ports {
		port := &out.Ports[i]
		port.Objects = rules.Build(port.ServicePort, port.Endpoints, out.Config, out.Node)
		owned = append(owned, rules.Owned{Owner: port.Owner(), Objects: port.Objects})
	}
	tx := desired.Update(owned)
	out.State, out.Things = desired.State(), tx.Things()
	return out, ok
}

// Conflict is a frontend that a service port does without.
type Conflict struct {
	Owner rules.Owner
	Lost
}

// Conflicts returns the frontends that a Service's ports do without. It may be called at any time.
func (p *Proxier) Conflicts(namespace, name string) (out []Conflict) {
	for _, w := range p.Looker().Conflicts(cluster.ObjectName{Namespace: namespace, Name: name}) {
		out = append(out, Conflict{w.Owner, lostTo(w.Conflict)})
	}
	return out
}

// Records returns the oldest records that are younger than the one of a number, 0 for all, so many at most. It may be called at any
// time.
func (p *Proxier) Records(after uint64, most int) []Record {
	return p.syncer.follow.history.after(after, most)
}

// Refused returns the service ports whose objects the kernel refuses, sorted. It may be called at any time.
func (p *Proxier) Refused() []RefusedPort { return p.syncer.follow.history.refusedPorts() }
