// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// Snapshot is what a Proxier works from, and what it made of it.
type Snapshot struct {
	Config rules.Config
	Node   rules.Node
	// Ports are all service ports, sorted by name and family.
	Ports []Port
	// State is what the kernel should hold.
	State rules.State
	// Elsewhere has, by their namespace/name, the Services that are for other nodes: the selector of those.
	Elsewhere map[string]string
}

// Port is a service port, what is known of its endpoints, and its objects.
type Port struct {
	rules.ServicePort // without the frontends that it lost
	Endpoints         []rules.Endpoint
	Objects           rules.Objects
	Lost              []Lost
}

// Lost is a frontend that a service port does without.
type Lost struct {
	Frontend string
	// Holder is the service port that gets it; without a name: nobody does.
	Holder rules.ServicePortName
	// Why has a text that goes on after Frontend, such as 'which the older Service port default/web has'.
	Why reason.Given
}

// Owner returns the owner that the port is.
func (p *Port) Owner() rules.Owner {
	return rules.Owner{ServicePortName: p.Name, Family: p.Family}
}

// Follow takes over what nobody but the nftproxy that runs knows: how endpoints were chosen by the connections that were
// open. have is what the kernel holds.
func (s *Snapshot) Follow(have rules.State) {
	for i := range s.Ports {
		p := &s.Ports[i]
		p.Objects = s.State.Follow(have, &p.ServicePort, p.Objects)
	}
}

// Snapshot returns what the Proxier knows. It is called after Run has returned.
func (p *Proxier) Snapshot() Snapshot {
	program := p.syncer.program
	out := Snapshot{Config: p.config.Rules, Node: program.node, State: program.desired.State(), Elsewhere: p.cluster.Elsewhere()}
	for _, in := range p.cluster.AllInputs() {
		port := p.port(&in)
		port.Objects = program.desired.Objects(in.Owner)
		out.Ports = append(out.Ports, port)
	}
	return out
}

// port returns an owner's input as a Port, without its objects.
func (p *Proxier) port(in *cluster.Input) Port {
	if p.syncer.ejected != nil && in.Port.Failover {
		in.Port.Ejection = p.syncer.ejected(in.Owner)
	}
	port := Port{ServicePort: in.Port, Endpoints: in.Endpoints}
	for _, c := range in.Lost {
		port.Lost = append(port.Lost, lostTo(c))
	}
	return port
}

// lostTo returns a conflict as those are told of it who ask.
func lostTo(c cluster.Conflict) Lost {
	return Lost{c.Frontend.String(), c.Holder.ServicePortName, c.Why.With(conflictArgs(c)...)}
}
