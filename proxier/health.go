// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// Health answers those who ask whether nftproxy works, and load balancers that ask
// for the endpoints on this node.
type Health interface {
	// Began is called when all lists are in and it is first tried to program them.
	Began()
	// Queued is called when a change came in, Updated when all are programmed.
	Queued()
	Updated()
	// SetNodeEligible says whether load balancers may send connections here.
	SetNodeEligible(bool)
	// SetAddresses says where healthCheckNodePorts are; unspecified addresses stand
	// for all of their family.
	SetAddresses([]netip.Addr)
	// SetService says at which port a Service is asked for and how many endpoints,
	// by family, are ready on this node.
	SetService(namespace, name string, port uint16, endpoints [2]int)
	// DeleteService says that a Service is asked for no more, and frees its port.
	DeleteService(namespace, name string)
}

// noHealth is for when nobody asks.
type noHealth struct{}

func (noHealth) Began()                                    {}
func (noHealth) Queued()                                   {}
func (noHealth) Updated()                                  {}
func (noHealth) SetNodeEligible(bool)                      {}
func (noHealth) SetAddresses([]netip.Addr)                 {}
func (noHealth) SetService(string, string, uint16, [2]int) {}
func (noHealth) DeleteService(string, string)              {}

// listener tells of changes at once, while the kernel is at work: if it hangs, somebody notices.
type listener struct {
	health  Health
	metrics *kubeProxyMetrics
	wake    chan struct{} // of capacity 1: something is to be done
}

// Changed implements cluster.Listener.
func (l *listener) Changed() {
	l.health.Queued()
	l.metrics.queued()
	l.poke()
}

// SetNodeEligible implements cluster.Listener.
func (l *listener) SetNodeEligible(eligible bool) { l.health.SetNodeEligible(eligible) }

// poke says that there is something to do.
func (l *listener) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// healthChecks says where load balancers ask for endpoints.
type healthChecks struct {
	*teller
	health    Health
	told      map[cluster.ObjectName]healthPort
	nodePorts cluster.NodePortAddresses
	known     bool    // the node's addresses are
	missing   [2]bool // families that the node does not have
}

// setAddresses says where health checks are answered when NodePorts are served at some addresses: nowhere of a family that
// the node does not have.
func (h *healthChecks) setAddresses(nodePortIPs []netip.Addr) {
	list := h.nodePorts.HealthAddresses(nodePortIPs, h.known)
	h.health.SetAddresses(slices.DeleteFunc(list, func(a netip.Addr) bool { return h.missing[rules.FamilyOf(a)] }))
}

// healthPort is a healthCheckNodePort.
type healthPort struct {
	number  uint16 // 0: there is none
	refused bool   // this node reaches its API server there
}

// healthCheck is that of a Service now.
type healthCheck struct {
	name cluster.ObjectName
	healthPort
	ready [2]int
}

// of returns those of the Services of owners.
func (h *healthChecks) of(owners []rules.Owner) (out []healthCheck) {
	servicesOf(owners, func(n cluster.ObjectName) {
		if c := h.cluster.HealthCheck(n); c.Port != 0 || h.told[n].number != 0 {
			out = append(out, healthCheck{n, healthPort{c.Port, c.Refused}, c.Ready})
		}
	})
	return out
}

// giveUp closes ports that Services no longer have.
func (h *healthChecks) giveUp(list []healthCheck) {
	for _, c := range list {
		was, ok := h.told[c.name]
		if !ok || was == c.healthPort {
			continue
		}
		if !was.refused {
			h.health.DeleteService(c.name.Namespace, c.name.Name)
		}
		delete(h.told, c.name)
	}
}

// tell says what has become of Services that have a port.
func (h *healthChecks) tell(list []healthCheck) {
	for _, c := range list {
		if c.number == 0 {
			continue
		}
		_, told := h.told[c.name]
		h.told[c.name] = c.healthPort
		switch {
		case !c.refused:
			h.health.SetService(c.name.Namespace, c.name.Name, c.number, c.ready)
		case !told:
			h.log.Info(reason.HealthPortAPIServer.Log(), "service", c.name.String(), "healthCheckNodePort", c.number)
			h.service(c.name, reason.HealthPortAPIServer.Event(), reason.HealthPortAPIServer.Text(c.number))
		}
	}
}
