// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strconv"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// frontends returns where clients connect to a port. If the target is an address, that is the only one.
func (w *World) frontends(p *proxier.Port, target Target) []FrontendView {
	var out []FrontendView
	seen := map[rules.Frontend]bool{}
	add := func(kind string, a netip.Addr, port uint16) {
		at := rules.Frontend{Addr: a, Protocol: p.Protocol, Port: port}
		if !a.IsValid() || !target.means(at) || seen[at] {
			return
		}
		seen[at] = true
		out = append(out, FrontendView{Kind: kind, Address: at.At().String(), at: at, Clients: []ClientView{}})
	}
	add("ClusterIP", p.ClusterIP, p.Port)
	if p.NodePort != 0 {
		addrs := w.nodePortAddrs(p.Family)
		for _, a := range addrs {
			add("NodePort", a, p.NodePort)
		}
		if len(addrs) == 0 && !target.isAddress() {
			out = append(out, FrontendView{Kind: "NodePort", Address: strconv.Itoa(int(p.NodePort)), Clients: []ClientView{},
				Problem: reason.NoNodePortAddress.Text()})
		}
	}
	for _, a := range p.LoadBalancerIPs {
		add("load balancer", a, p.Port)
	}
	for _, a := range p.ExternalIPs {
		add("external IP", a, p.Port)
	}
	if len(out) == 0 && target.isAddress() { // a port that the Service does not have
		add("address", target.Frontend.Addr, target.Frontend.Port)
	}
	return out
}

// FrontendsOf names where clients connect to a port: ADDRESS:PORT, and NODEPORT alone for a NodePort.
func FrontendsOf(p *proxier.Port) []string {
	out := []string{}
	for _, f := range (&World{}).frontends(p, Target{}) {
		out = append(out, f.Address)
	}
	return out
}

// nodePortAddrs returns the node's addresses that serve NodePorts.
func (w *World) nodePortAddrs(f rules.Family) []netip.Addr {
	list := w.Node.NodePortIPs
	if w.Config.AllNodePortIPs {
		list = w.Local
	}
	var out []netip.Addr
	for _, a := range list {
		if rules.FamilyOf(a) == f && !a.IsLoopback() {
			out = append(out, a)
		}
	}
	return out
}
