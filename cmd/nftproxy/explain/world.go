// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// World is what explanations are made from: what a proxier has, what its source says besides, and what the kernel holds.
type World struct {
	proxier.Snapshot
	// Places says what is known of endpoints besides.
	Places map[Place][]Details
	// Notes say what of a Service, by its namespace/name, is not served.
	Notes map[string][]string
	// Slices has what is known of the EndpointSlices of a Service, by its namespace/name; nil: nothing is.
	Slices map[string][]cluster.SliceLook
	// Have is what the kernel holds; nil: it could not be read, for the reason
	// that Problem gives.
	Have    *rules.State
	Problem string
	// FromKernel says that there is no other source than Have.
	FromKernel bool
	// Alone says that the Snapshot has one Service. What all Services share is not compared with the kernel then: the running
	// nftproxy does that.
	Alone bool
	// PodsUnknown says that the options of the nftproxy which serves the node are not known, and so not where pods are: to a ClusterIP
	// other clients may be masqueraded.
	PodsUnknown bool
	// Local lists the node's own addresses that are known.
	Local []netip.Addr
	// InterfaceTo returns the interface that leads to an address, and so the one that
	// its packets come from. Nil: it is not known.
	InterfaceTo func(netip.Addr) (string, error)
}

// Place is where endpoints of a service port are. Pods on the node's network share an address, and at one port of it there can
// be two: one that goes, and the next.
type Place struct {
	Port     rules.ServicePortName
	Protocol rules.Protocol
	At       netip.AddrPort
}

// Details is what an EndpointSlice says of an endpoint, with what tells it from others at its place. Make it with NewDetails.
type Details struct {
	Pod, Node, Zone             string
	Ready, Serving, Terminating bool
}

// details returns what is known of an endpoint besides.
func (w *World) details(p *proxier.Port, e *rules.Endpoint) Details {
	list := w.Places[Place{p.Name, p.Protocol, e.Addr}]
	for _, here := range []bool{true, false} { // with the node, and if that tells none, without
		for _, d := range list {
			if d.Ready == e.Ready && d.Serving == e.Serving && d.Terminating == e.Terminating && (!here || e.Local == (d.Node == w.Node.Name)) {
				return d
			}
		}
	}
	return Details{}
}

// NewDetails makes the names printable. The pod's is empty where the endpoint is none, and the API validates none of them.
func NewDetails(namespace, pod, node, zone string) Details {
	if pod != "" {
		pod = printable.Word(namespace) + "/" + printable.Word(pod)
	}
	return Details{Pod: pod, Node: printable.Word(node), Zone: printable.Word(zone)}
}
