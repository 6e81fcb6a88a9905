// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

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
	// DeleteService says that a Service is asked for no more; it may never have been.
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

// tellHealth says what has become of the Services whose owners were programmed.
func (p *Proxier) tellHealth(builds []rules.Owned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := objectName{}
	for i := range builds { // sorted by Service
		n := serviceOf(builds[i].Owner)
		if n == told {
			continue
		}
		told = n
		if s := p.store.services[n]; s != nil && s.healthPort != 0 {
			p.config.Health.SetService(n.namespace, n.name, s.healthPort, p.store.localReady(n))
		} else {
			p.config.Health.DeleteService(n.namespace, n.name)
		}
	}
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

// tellLocalPorts forwards what the owners that were programmed want on loopback
// addresses.
func (p *Proxier) tellLocalPorts(builds []rules.Owned) {
	if p.config.LocalPorts == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// All that is given up goes first: another owner may have taken it.
	for i := range builds {
		o := builds[i].Owner
		sp, _, _ := p.store.input(o)
		if was, ok := p.localPorts[o]; ok && was != p.localPortOf(&sp) {
			p.config.LocalPorts.Delete(was.network, was.at)
			delete(p.localPorts, o)
		}
	}
	for i := range builds {
		o := builds[i].Owner
		sp, endpoints, _ := p.store.input(o)
		now := p.localPortOf(&sp)
		if now.network == "" {
			continue
		}
		p.localPorts[o] = now
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
			p.warnService(serviceOf(o), reasonPort, fmt.Sprintf("NodePort is not served on a loopback address: %v", err))
		}
	}
}

// localPortOf returns where a service port is served on a loopback address; its zero
// value if nowhere.
func (p *Proxier) localPortOf(sp *rules.ServicePort) localPort {
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), sp.NodePort)
	if sp.Family == rules.IPv6 {
		at = netip.AddrPortFrom(netip.IPv6Loopback(), sp.NodePort)
	}
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
		p.config.Events.Warning(about, reason, message)
	}
}

func serviceOf(o rules.Owner) objectName { return objectName{o.Namespace, o.Name} }
