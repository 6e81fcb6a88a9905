// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// find returns the service ports that a target means.
func (w *World) find(t Target) ([]*proxier.Port, error) {
	if t.bare() {
		if list := findBare(w.Ports, t.Frontend.Addr); len(list) > 0 {
			return list, nil
		}
	}
	if t.isAddress() {
		p, err := w.findAddress(t)
		return []*proxier.Port{p}, err
	}
	var out, all []*proxier.Port
	for i := range w.Ports {
		p := &w.Ports[i]
		if p.Name.Namespace != t.Namespace || p.Name.Name != t.Name {
			continue
		}
		all = append(all, p)
		if t.Port == "" || p.Name.Port == t.Port || strconv.Itoa(int(p.Port)) == t.Port {
			out = append(out, p)
		}
	}
	switch {
	case len(all) == 0:
		if w.FromKernel {
			return nil, fmt.Errorf("the kernel has no chain of a Service %s/%s; one without a choice of endpoints needs none: give its ADDRESS:PORT/PROTOCOL", t.Namespace, t.Name)
		}
		if selector, ok := w.Elsewhere[t.Namespace+"/"+t.Name]; ok {
			return nil, fmt.Errorf("service %s/%s %s", t.Namespace, t.Name, reason.OtherNodes.Text(printable.Word(selector)))
		}
		return nil, fmt.Errorf("there is no Service %s/%s with a ClusterIP%s", t.Namespace, t.Name, w.namesakes(t.Name))
	case len(out) == 0:
		return nil, fmt.Errorf("service %s/%s has no port %q: it has %s", t.Namespace, t.Name, t.Port, portNames(all))
	}
	return out, nil
}

// namesakes tells of Services of a name in other namespaces, at the end of a message.
func (w *World) namesakes(name string) string {
	var out []string
	for _, p := range w.Ports {
		if full := p.Name.Service(); p.Name.Name == name && !slices.Contains(out, full) {
			out = append(out, full)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": there is " + strings.Join(out, ", ")
}

func portNames(ports []*proxier.Port) string {
	var out []string
	for _, p := range ports {
		text := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.Name.Port != "" {
			text = printable.Word(p.Name.Port) + " (" + text + ")"
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

// findAddress returns the service port that is served at an address. If none is, but a Service has it as its ClusterIP, that is a
// port without a name and endpoints: one that the Service does not have.
func (w *World) findAddress(t Target) (*proxier.Port, error) {
	var same *proxier.Port
	to := t.Frontend
	for i := range w.Ports {
		p := &w.Ports[i]
		if p.Protocol == to.Protocol && slices.ContainsFunc(w.frontends(p, Target{}), func(f FrontendView) bool { return f.at == to }) {
			return p, nil
		}
		if p.ClusterIP == to.Addr && same == nil {
			same = p
		}
	}
	if same != nil && to.Port != 0 {
		other := *same
		other.Protocol, other.Port, other.Name.Port = to.Protocol, to.Port, ""
		other.ClusterIP, other.NodePort, other.LoadBalancerIPs, other.ExternalIPs = netip.Addr{}, 0, nil, nil
		other.Endpoints, other.Objects = nil, rules.Objects{}
		return &other, nil
	}
	if to.Port == 0 {
		return nil, fmt.Errorf("no Service has the address %s%s", to.Addr, ownAddress(w.Local, to.Addr))
	}
	for _, p := range w.Ports {
		if slices.ContainsFunc(p.Endpoints, func(e rules.Endpoint) bool { return e.Addr == to.At() }) {
			return nil, fmt.Errorf("%s is an endpoint of Service %s, not an address of a Service: connections to it meet none of nftproxy's rules",
				t.Text, p.Name.Service())
		}
	}
	for _, c := range w.Node.ServiceCIDRs {
		if c.Contains(to.Addr) {
			return nil, fmt.Errorf("no Service has %s: connections to an address of the ServiceCIDR %s that no Service has are dropped", t.Text, c)
		}
	}
	at := fmt.Sprintf("%s/%s", to.At(), to.Protocol) // to a Frontend's String an unspecified address is a NodePort
	if to.Addr.IsLoopback() {
		return nil, fmt.Errorf("%s: no rule serves NodePorts on loopback addresses; with --nodeport-addresses localhost nftproxy forwards them itself", at)
	}
	return nil, fmt.Errorf("%s is neither an address of a Service nor a NodePort on this node", at)
}

// PortAt returns the service port that serves a frontend; nil if none does.
func (w *World) PortAt(f rules.Frontend) *proxier.Port {
	p, err := w.findAddress(Target{Frontend: f})
	if err != nil || len(w.frontends(p, Target{})) == 0 { // an address of a Service, but no port of it
		return nil
	}
	return p
}
