// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// FromKernel returns a world of which nothing is known but what the kernel holds. It
// has no policies, and service ports only by the names of their chains: those whose
// frontends need no chain have no name.
func FromKernel(have rules.State) *World {
	w := &World{Have: &have, FromKernel: true, Problem: "it is the source itself"}
	w.State, w.Config.Table = have, have.Name
	for _, f := range rules.Families {
		if t := have.Tables[f]; t != nil {
			for k := range t.Sets[rules.SetID{Kind: rules.NodePortIPs}] {
				w.Node.NodePortIPs = append(w.Node.NodePortIPs, k.Addr)
			}
			w.Ports = append(w.Ports, kernelPorts(f, t)...)
		}
	}
	slices.SortFunc(w.Node.NodePortIPs, netip.Addr.Compare)
	w.Local = w.Node.NodePortIPs
	slices.SortFunc(w.Ports, func(a, b proxier.Port) int {
		return cmp.Or(cmp.Compare(a.Name.String(), b.Name.String()), cmp.Compare(a.Family, b.Family),
			a.ClusterIP.Compare(b.ClusterIP), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return w
}

// kernelPorts returns the service ports that a table tells of.
func kernelPorts(f rules.Family, t *rules.Table) []proxier.Port {
	named := map[rules.ServicePortName]*proxier.Port{}
	var nameless []proxier.Port
	for id, set := range t.Sets {
		if !id.Kind.Serves() {
			continue
		}
		for k, v := range set {
			name := rules.ParseChainID(v.Goto).Of
			ok := name != rules.ServicePortName{}
			p := named[name]
			if !ok || p == nil {
				p = &proxier.Port{ServicePort: rules.ServicePort{Name: name, Family: f, Protocol: k.Protocol}}
			}
			addFrontend(p, k, t)
			if ok {
				named[name] = p
			} else {
				nameless = append(nameless, *p)
			}
		}
	}
	for id, m := range t.Affinity {
		name, _ := id.ServicePort()
		if p := named[name]; p != nil {
			p.Objects.Affinity = append(p.Objects.Affinity, m)
		}
	}
	for _, p := range named {
		nameless = append(nameless, *p)
	}
	return nameless
}

func addFrontend(p *proxier.Port, k rules.Key, t *rules.Table) {
	_, isClusterIP := t.Sets[rules.SetID{Kind: rules.ClusterIPs}][rules.Key{Addr: k.Addr}]
	switch {
	case !k.Addr.IsValid():
		p.NodePort = k.Port
		return
	case isClusterIP:
		p.ClusterIP = k.Addr
	default:
		p.ExternalIPs = append(p.ExternalIPs, k.Addr)
		slices.SortFunc(p.ExternalIPs, netip.Addr.Compare)
	}
	p.Port = k.Port
}
