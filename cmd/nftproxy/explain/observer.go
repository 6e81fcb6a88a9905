// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// Observer passes on what a source tells, and keeps what explanations need besides. It is a source.Sink and takes a proxier's
// warnings. What it kept is read when the source has ended.
type Observer struct {
	source.Sink
	places      map[Place][]Details
	slices      map[string][]cluster.SliceLook // by the Service's namespace/name
	pods        map[string][]netip.Addr        // by namespace/name
	unaddressed map[string]string              // why a Service has no address of its own, by namespace/name
	hasNode     bool

	mu    sync.Mutex          // the proxier may warn while the source tells
	notes map[string][]string // what of a Service is not served and why, by namespace/name
}

// NewObserver returns an observer that has seen nothing yet. Its Sink has to be set before the source begins.
func NewObserver() *Observer {
	return &Observer{places: map[Place][]Details{}, slices: map[string][]cluster.SliceLook{}, pods: map[string][]netip.Addr{}, unaddressed: map[string]string{}, notes: map[string][]string{}}
}

// World returns a world that knows no more than what was seen.
func (o *Observer) World() *World { return &World{Places: o.places, Slices: o.slices, Notes: o.notes} }

// Pod returns the addresses of a pod, by its NAMESPACE/NAME, that is an endpoint; none if it is no endpoint.
func (o *Observer) Pod(name string) []netip.Addr { return o.pods[name] }

// Unaddressed says why a Service has no address of its own, such as 'is headless, so that ...'; nothing if it has one, or if there is
// no such Service.
func (o *Observer) Unaddressed(namespace, name string) string {
	return o.unaddressed[namespace+"/"+name]
}

// HasNode says whether there is any Node: a cluster tells of this node's alone.
func (o *Observer) HasNode() bool { return o.hasNode }

// ReplaceNodes implements source.Sink.
func (o *Observer) ReplaceNodes(list []*corev1.Node) {
	o.hasNode = len(list) > 0
	o.Sink.ReplaceNodes(list)
}

// ReplaceServices implements source.Sink.
func (o *Observer) ReplaceServices(list []*corev1.Service) {
	for _, svc := range list {
		name := svc.Namespace + "/" + svc.Name
		if why := cluster.Unaddressed(svc); why != 0 {
			o.unaddressed[name] = why.Text()
		} else {
			o.note(name, cluster.LoadBalancerNotes(svc)...)
		}
	}
	o.Sink.ReplaceServices(list)
}

// Warning implements proxier.Events: it keeps what of a Service cannot be served.
func (o *Observer) Warning(about corev1.ObjectReference, event, message string) {
	if event == reason.EventInvalidService {
		name := about.Namespace + "/" + about.Name
		o.note(name, strings.TrimPrefix(message, "service "+name+": "))
	}
}

func (o *Observer) note(service string, notes ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.notes[service] = append(o.notes[service], notes...)
}

// ReplaceEndpointSlices implements source.Sink.
func (o *Observer) ReplaceEndpointSlices(list []*discoveryv1.EndpointSlice) {
	for _, es := range list {
		o.slice(es)
		for i := range es.Endpoints {
			o.endpoint(es, &es.Endpoints[i])
		}
	}
	o.Sink.ReplaceEndpointSlices(list)
}

// slice keeps what ports an EndpointSlice has.
func (o *Observer) slice(es *discoveryv1.EndpointSlice) {
	s := cluster.SliceLook{Endpoints: len(es.Endpoints)}
	switch es.AddressType {
	case discoveryv1.AddressTypeIPv4:
	case discoveryv1.AddressTypeIPv6:
		s.Family = rules.IPv6
	default:
		return
	}
	for _, p := range es.Ports {
		protocol, err := rules.ParseProtocol(string(ptr.Deref(p.Protocol, corev1.ProtocolTCP)))
		if err == nil && p.Port != nil {
			s.Ports = append(s.Ports, cluster.SlicePort{Name: ptr.Deref(p.Name, ""), Protocol: protocol, Port: uint16(*p.Port)}) //nolint:gosec // it is only shown
		}
	}
	service := es.Namespace + "/" + es.Labels[discoveryv1.LabelServiceName]
	o.slices[service] = append(o.slices[service], s)
}

func (o *Observer) endpoint(es *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) {
	if len(e.Addresses) == 0 {
		return
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return
	}
	a = a.Unmap()
	pod := ""
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		pod = e.TargetRef.Name
		if name := es.Namespace + "/" + pod; !slices.Contains(o.pods[name], a) {
			o.pods[name] = append(o.pods[name], a)
		}
	}
	d := NewDetails(es.Namespace, pod, ptr.Deref(e.NodeName, ""), ptr.Deref(e.Zone, ""))
	d.Ready, d.Serving, d.Terminating = ptr.Deref(e.Conditions.Ready, true), ptr.Deref(e.Conditions.Serving, true), ptr.Deref(e.Conditions.Terminating, false)
	for i := range es.Ports {
		port := &es.Ports[i]
		at := Place{At: netip.AddrPortFrom(a, uint16(ptr.Deref(port.Port, 0))), //nolint:gosec // what is no port is not found, and not served
			Port: rules.ServicePortName{Namespace: es.Namespace, Name: es.Labels[discoveryv1.LabelServiceName], Port: ptr.Deref(port.Name, "")}}
		at.Protocol, _ = rules.ParseProtocol(string(ptr.Deref(port.Protocol, corev1.ProtocolTCP))) // what is none is not served
		o.places[at] = append(o.places[at], d)
	}
}
