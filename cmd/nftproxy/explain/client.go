// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// Client is where connections come from.
type Client struct {
	Name  string
	Addrs [2]netip.Addr // by family; one that is not valid cannot connect in it
	// IsNode says that it is this node itself.
	IsNode bool
	// Interface is where its packets come in; empty for the node itself.
	Interface string
}

func (c Client) addr(f rules.Family) netip.Addr { return c.Addrs[f] }

// outside are the addresses of a client outside the cluster: those that are reserved for documentation.
var outside = [2]netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, 1}), netip.MustParseAddr("2001:db8::1")}

// outsideInterface is no pod's.
const outsideInterface = "(outside)"

// ClientAt returns the client that has an address.
func (w *World) ClientAt(a netip.Addr) Client {
	c := Client{Name: a.String()}
	c.Addrs[rules.FamilyOf(a)] = a
	if c.IsNode = slices.Contains(w.Local, a) || a.IsLoopback(); !c.IsNode {
		c.Interface = w.interfaceOf(a)
	}
	return c
}

// NodeClient returns this node itself.
func (w *World) NodeClient() Client {
	c := Client{Name: "this node", Addrs: w.Node.IPs, IsNode: true}
	for _, f := range rules.Families {
		if !c.Addrs[f].IsValid() {
			c.Addrs[f] = [2]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}[f]
		}
	}
	return c
}

// OutsideClient returns a client that is not in the cluster.
func (w *World) OutsideClient() Client {
	return Client{Name: "outside", Addrs: outside, Interface: outsideInterface}
}

// PodClient returns a pod that is no endpoint; false if nothing tells where pods are.
func (w *World) PodClient() (Client, bool) {
	c := Client{Name: "a pod", Interface: w.podInterface()}
	for _, f := range rules.Families {
		for _, p := range slices.Concat(w.Config.PodCIDRs, w.Node.PodCIDRs) {
			if rules.FamilyOf(p.Addr()) == f && !c.Addrs[f].IsValid() {
				c.Addrs[f] = w.unused(p)
			}
		}
		if !c.Addrs[f].IsValid() && w.Config.PodInterface != "" {
			c.Addrs[f] = outside[f]
		}
	}
	return c, c.Addrs[rules.IPv4].IsValid() || c.Addrs[rules.IPv6].IsValid()
}

// interfaceOf returns the interface at which packets from an address come in. It matters where pods are told from others by
// their interfaces. If the node's routes are not known, endpoints on this node are taken to be pods.
func (w *World) interfaceOf(a netip.Addr) string {
	if w.Config.PodInterface == "" {
		return outsideInterface // any will do
	}
	if w.InterfaceTo != nil {
		if name, err := w.InterfaceTo(a); err == nil {
			return name
		}
	}
	for _, p := range w.Ports {
		if slices.ContainsFunc(p.Endpoints, func(e rules.Endpoint) bool { return e.Addr.Addr() == a && e.Local }) {
			return w.podInterface()
		}
	}
	return outsideInterface
}

func (w *World) podInterface() string {
	if w.Config.PodInterface == "" {
		return "(pod)"
	}
	return strings.TrimSuffix(w.Config.PodInterface, "*")
}

// unused returns an address of a range that is no endpoint's.
func (w *World) unused(p netip.Prefix) netip.Addr {
	used := map[netip.Addr]bool{}
	for _, port := range w.Ports {
		for _, e := range port.Endpoints {
			used[e.Addr.Addr()] = true
		}
	}
	for a := p.Addr().Next(); p.Contains(a); a = a.Next() {
		if !used[a] && !slices.Contains(w.Local, a) {
			return a
		}
	}
	return p.Addr()
}

// clientsOf returns the clients that can connect to a port: those that were asked
// for, or one of each kind.
func (w *World) clientsOf(p *proxier.Port, asked []Client) []Client {
	list := asked
	if len(list) == 0 {
		if pod, ok := w.PodClient(); ok {
			list = append(list, pod)
		}
		list = append(list, w.NodeClient(), w.OutsideClient())
		if len(p.SourceRanges) > 0 && len(p.LoadBalancerIPs) > 0 {
			allowed := Client{Name: "outside in " + p.SourceRanges[0].String(), Interface: outsideInterface}
			allowed.Addrs[p.Family] = p.SourceRanges[0].Addr()
			list = append(list, allowed)
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(c Client) bool { return !c.addr(p.Family).IsValid() })
}
