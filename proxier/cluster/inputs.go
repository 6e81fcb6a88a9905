// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/rules"
)

// AllInputs returns the Inputs of all owners, sorted.
func (c *Cluster) AllInputs() []Input {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Input
	for n, s := range c.store.services {
		eachOwner(n, s, func(o rules.Owner, _ rules.ServicePort) { out = append(out, c.store.input(o)) })
	}
	slices.SortFunc(out, func(a, b Input) int { return a.Owner.Compare(b.Owner) })
	return out
}

// HealthCheck is where load balancers ask for a Service's endpoints on this node, and what is answered.
type HealthCheck struct {
	// Port is the healthCheckNodePort. 0: there is none.
	Port uint16
	// Refused says that this node reaches its API server there.
	Refused bool
	// Ready is how many endpoints are ready on this node, by family.
	Ready [2]int
}

// HealthCheck returns that of a Service.
func (c *Cluster) HealthCheck(n ObjectName) HealthCheck {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.store.services[n]
	if s == nil || s.healthPort == 0 {
		return HealthCheck{}
	}
	return HealthCheck{s.healthPort, c.store.refusesHealthPort(s), c.store.localReady(n)}
}

// ServiceUID returns the UID of a Service; none if there is no such Service.
func (c *Cluster) ServiceUID(n ObjectName) types.UID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.store.services[n]; s != nil {
		return s.uid
	}
	return ""
}

// Holder returns who is served at a frontend; false: nobody.
func (c *Cluster) Holder(f rules.Frontend) (rules.Owner, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who, ok := c.store.frontends.winner(f)
	return who.owner, ok
}

// ServedBy returns whose endpoints connections to a frontend go to: those of a node's address that
// is nobody's own frontend are the NodePort's. An owner without a name: nobody's.
func (c *Cluster) ServedBy(f rules.Frontend) rules.Owner {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.store.frontends.holderOf(f)
	if o.Name == "" && slices.Contains(c.node.taken.NodePortIPs, f.Addr) {
		o = c.store.frontends.holderOf(f.NodePort())
	}
	return o
}

// Serving returns the endpoints of an owner that flows may go to that are there already, and those that
// are in its slices but do not serve.
func (c *Cluster) Serving(o rules.Owner, protocol rules.Protocol) (serving, unready []netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.serving(o, protocol)
}

// Mark notes owners as changed, though no object is.
func (c *Cluster) Mark(owners ...rules.Owner) {
	c.mu.Lock()
	c.store.mark(owners...)
	if len(owners) > 0 {
		c.pending.causes.add(CauseFailover, ServiceOf(owners[0]), causeChanged)
	}
	c.mu.Unlock()
	c.listener.Changed()
}

// NodePortIPs returns the addresses that serve NodePorts, as they were last taken, sorted.
func (c *Cluster) NodePortIPs() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node.taken.NodePortIPs
}

// Frontends returns all that service ports want.
func (c *Cluster) Frontends() (out []rules.Frontend) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, svc := range c.store.services {
		eachOwner(n, svc, func(_ rules.Owner, sp rules.ServicePort) {
			for _, cl := range claimsOf(&sp) {
				out = append(out, cl.Frontend)
			}
		})
	}
	return out
}

// NodePorts returns those of some families that somebody has.
func (c *Cluster) NodePorts(families [2]bool) (out []rules.Frontend) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := range c.store.frontends.holder {
		if f.IsNodePort() && families[rules.FamilyOf(f.Addr)] {
			out = append(out, f)
		}
	}
	return out
}
