// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
)

// Events takes warnings about objects, for those who look at them with kubectl. It
// must not block.
type Events interface {
	Warning(about corev1.ObjectReference, reason, message string)
}

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

// tellPorts says which ports the owners that were programmed want nftproxy itself to listen on.
// Those that are given up go first: another owner may have taken them, for the same or another use.
func (p *Proxier) tellPorts(builds []rules.Owned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveUpHealth(builds)
	p.giveUpLocalPorts(builds)
	p.tellHealth(builds)
	p.tellLocalPorts(builds)
}

// servicesOf calls f once for each Service of owners that are sorted.
func servicesOf(builds []rules.Owned, f func(objectName)) {
	told := objectName{}
	for i := range builds {
		if n := serviceOf(builds[i].Owner); n != told {
			told = n
			f(n)
		}
	}
}

// healthPort is a healthCheckNodePort.
type healthPort struct {
	number  uint16 // 0: there is none
	refused bool   // this node reaches its API server there
}

// healthPort returns where a Service is asked for. p.mu is held.
func (p *Proxier) healthPort(n objectName) healthPort {
	s := p.store.services[n]
	if s == nil || s.healthPort == 0 {
		return healthPort{}
	}
	return healthPort{s.healthPort, p.store.refusesHealthPort(s)}
}

// giveUpHealth closes healthCheckNodePorts that Services no longer have. p.mu is held.
func (p *Proxier) giveUpHealth(builds []rules.Owned) {
	servicesOf(builds, func(n objectName) {
		was, ok := p.healthPorts[n]
		if !ok || was == p.healthPort(n) {
			return
		}
		if !was.refused {
			p.config.Health.DeleteService(n.namespace, n.name)
		}
		delete(p.healthPorts, n)
	})
}

// tellHealth says what has become of Services that have a healthCheckNodePort. p.mu is held.
func (p *Proxier) tellHealth(builds []rules.Owned) {
	servicesOf(builds, func(n objectName) {
		now := p.healthPort(n)
		if now.number == 0 {
			return
		}
		_, told := p.healthPorts[n]
		p.healthPorts[n] = now
		switch {
		case !now.refused:
			p.config.Health.SetService(n.namespace, n.name, now.number, p.store.localReady(n))
		case !told:
			p.log.Info("Not served: this node reaches its API server there", "service", n.String(), "healthCheckNodePort", now.number)
			p.warnService(n, reasonConflict, fmt.Sprintf("healthCheckNodePort %d is not served: this node reaches its API server there", now.number))
		}
	})
}

// LocalPorts serves NodePorts on loopback addresses, where the kernel does not.
type LocalPorts interface {
	// Set forwards connections of a network (tcp or udp) to endpoints, each in turn;
	// with an affinity above 0 they stay with one for that long. Without endpoints
	// nobody listens. An error says, once, that the port cannot be listened on; that is
	// tried again.
	Set(network string, at netip.AddrPort, endpoints []netip.AddrPort, affinity time.Duration) error
	// Delete ends that.
	Delete(network string, at netip.AddrPort)
}

// localPort is a NodePort on a loopback address.
type localPort struct {
	network string
	at      netip.AddrPort
}

// localPort returns where an owner is served on a loopback address; its zero value if nowhere.
// p.mu is held.
func (p *Proxier) localPort(o rules.Owner) localPort {
	if p.config.LocalPorts == nil {
		return localPort{}
	}
	sp, _, _ := p.store.input(o)
	return p.localPortOf(&sp)
}

// giveUpLocalPorts closes ports on loopback addresses that owners no longer have. p.mu is held.
func (p *Proxier) giveUpLocalPorts(builds []rules.Owned) {
	for i := range builds {
		o := builds[i].Owner
		if was, ok := p.localPorts[o]; ok && was != p.localPort(o) {
			p.config.LocalPorts.Delete(was.network, was.at)
			delete(p.localPorts, o)
		}
	}
}

// tellLocalPorts forwards what the owners that were programmed want on loopback
// addresses. p.mu is held.
func (p *Proxier) tellLocalPorts(builds []rules.Owned) {
	for i := range builds {
		o := builds[i].Owner
		now := p.localPort(o)
		if now.network == "" {
			continue
		}
		p.localPorts[o] = now
		sp, endpoints, _ := p.store.input(o)
		u := rules.SelectEndpoints(&sp, endpoints, &p.programmedNode)
		list := u.Cluster
		if sp.ExternalLocal {
			list = u.Local
		}
		addrs := make([]netip.AddrPort, len(list))
		for i, e := range list {
			addrs[i] = e.Addr
		}
		if err := p.config.LocalPorts.Set(now.network, now.at, addrs, time.Duration(sp.Affinity)*time.Second); err != nil {
			p.log.Error(err, "NodePort is not served on a loopback address", "servicePort", o.String())
			p.warnService(serviceOf(o), reasonPort, fmt.Sprintf("NodePort is not served on a loopback address: %s", printable.Error(err)))
		}
	}
}

// localPortOf returns where a service port is served on a loopback address; its zero
// value if nowhere.
func (p *Proxier) localPortOf(sp *rules.ServicePort) localPort {
	at := netip.AddrPortFrom(loopback(sp.Family), sp.NodePort)
	switch {
	case sp.NodePort == 0, p.config.Missing[sp.Family]:
		return localPort{}
	case sp.Protocol == rules.TCP:
		return localPort{"tcp", at}
	case sp.Protocol == rules.UDP:
		return localPort{"udp", at}
	}
	return localPort{}
}

// Reasons of events.
const (
	reasonConflict     = "FrontendConflict"     // another Service has the address, protocol and port
	ReasonInvalid      = "InvalidService"       // a part of the Service cannot be used
	reasonInvalidSlice = "InvalidEndpointSlice" // a part of the EndpointSlice cannot be used
	reasonRefused      = "KernelRefused"        // the kernel does not take the rules
	reasonPort         = "PortInUse"            // something else listens on the port
)

// warnService sends an event about the Service of an owner. p.mu is held.
func (p *Proxier) warnService(n objectName, reason, message string) {
	about := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: n.namespace, Name: n.name}
	if s := p.store.services[n]; s != nil {
		about.UID = s.uid
	}
	p.warn(about, reason, message)
}

func (p *Proxier) warn(about corev1.ObjectReference, reason, message string) {
	if p.config.Events != nil {
		p.config.Events.Warning(about, reason, printable.Line(message))
	}
}

func serviceOf(o rules.Owner) objectName { return objectName{o.Namespace, o.Name} }
