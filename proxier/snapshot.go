// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"slices"

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
	// Why goes on after Frontend, such as 'which the older Service port default/web has'.
	Why string
}

// Owner returns the owner that the port is.
func (p *Port) Owner() rules.Owner {
	return rules.Owner{ServicePortName: p.Name, Family: p.Family}
}

// Snapshot returns what the Proxier knows. It is called after Run has returned.
func (p *Proxier) Snapshot() Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := Snapshot{Config: p.config.Rules, Node: p.programmedNode, State: p.desired.State()}
	for n, s := range p.store.services {
		eachOwner(n, s, func(o rules.Owner, _ rules.ServicePort) {
			sp, endpoints, lost := p.store.input(o)
			port := Port{ServicePort: sp, Endpoints: endpoints, Objects: p.desired.Objects(o)}
			for _, cl := range lost {
				c, what := p.store.frontends.conflictOf(cl)
				port.Lost = append(port.Lost, Lost{cl.String(), c.holder.ServicePortName, c.text(what)})
			}
			out.Ports = append(out.Ports, port)
		})
	}
	slices.SortFunc(out.Ports, func(a, b Port) int { return compareOwners(a.Owner(), b.Owner()) })
	return out
}
