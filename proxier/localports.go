// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"time"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

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
	network string // tcp or udp; empty: there is none
	at      netip.AddrPort
}

// localPortOf returns where a service port is served on a loopback address. missing are the families that the node
// does not have.
func localPortOf(sp *rules.ServicePort, missing [2]bool) localPort {
	at := netip.AddrPortFrom(cluster.Loopback(sp.Family), sp.NodePort)
	switch {
	case sp.NodePort == 0, missing[sp.Family]:
		return localPort{}
	case sp.Protocol == rules.TCP:
		return localPort{"tcp", at}
	case sp.Protocol == rules.UDP:
		return localPort{"udp", at}
	}
	return localPort{}
}

// forwarding is a NodePort on a loopback address, and what is forwarded there.
type forwarding struct {
	localPort
	endpoints []netip.AddrPort
	affinity  time.Duration
}

// forwardingOf returns what is forwarded for a service port at a local port of its.
func forwardingOf(sp *rules.ServicePort, at localPort, u *rules.Usable) *forwarding {
	list := u.Cluster
	if sp.ExternalLocal {
		list = u.Local
	}
	f := &forwarding{localPort: at, endpoints: make([]netip.AddrPort, len(list)), affinity: time.Duration(sp.Affinity) * time.Second}
	for i := range list {
		f.endpoints[i] = list[i].Addr
	}
	return f
}

// forwardings knows what is forwarded for owners.
type forwardings struct {
	*teller
	ports LocalPorts // nil: nothing is forwarded
	have  map[rules.Owner]localPort
}

// giveUp closes the port of an owner, if it is another one than what it wants now.
func (l *forwardings) giveUp(o rules.Owner, now *forwarding) {
	if was, ok := l.have[o]; ok && (now == nil || was != now.localPort) {
		l.ports.Delete(was.network, was.at)
		delete(l.have, o)
	}
}

// set forwards what an owner wants.
func (l *forwardings) set(o rules.Owner, now *forwarding) {
	if now == nil {
		return
	}
	l.have[o] = now.localPort
	if err := l.ports.Set(now.network, now.at, now.endpoints, now.affinity); err != nil {
		l.log.Error(err, reason.PortInUse.Log(), "servicePort", o.String())
		l.service(cluster.ServiceOf(o), reason.PortInUse.Event(), reason.PortInUse.Text(printable.Error(err)))
	}
}
