// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// servicePort is the port that a service has in each protocol unless it says
// something else.
const servicePort = 80

// svc is a Service and its EndpointSlices.
type svc struct {
	*corev1.Service
	slices []*discoveryv1.EndpointSlice
}

// option changes a Service; rows write their own where they need one.
type option func(*corev1.Service)

// service makes a service with an address of its own in each family and no
// endpoints. Without an option that adds ports it has servicePort in each protocol.
func (w *world) service(name string, options ...option) *svc {
	w.services++
	s := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name},
	}
	for _, f := range netns.Families() {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, netns.ServiceAddr(f, w.services).String())
	}
	for _, o := range options {
		o(s)
	}
	if len(s.Spec.Ports) == 0 {
		for _, p := range traffic.Protocols() {
			port(strings.ToLower(p.String()), p, servicePort, backendPort)(s)
		}
	}
	if len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	return &svc{Service: s}
}

// port adds a port, and where endpoints answer for it.
func port(name string, p traffic.Protocol, number, target uint16) option {
	return func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Protocol: corev1.Protocol(p.String()),
			Port: int32(number), TargetPort: intstr.FromInt32(int32(target))})
	}
}

// only makes the service one of a single family.
func only(f netns.Family) option {
	return func(s *corev1.Service) {
		i := 0
		if f == netns.IPv6 {
			i = 1
		}
		s.Spec.ClusterIPs = s.Spec.ClusterIPs[i : i+1]
	}
}

// at returns where a port of the service is reached.
func (s *svc) at(f netns.Family, port uint16) netip.AddrPort {
	for _, ip := range s.Spec.ClusterIPs {
		if a := netip.MustParseAddr(ip); a.Is6() == (f == netns.IPv6) {
			return netip.AddrPortFrom(a, port)
		}
	}
	return netip.AddrPort{}
}

// to gives the service these endpoints and no others, in one slice of each family.
func (s *svc) to(lists ...[]endpoint) *svc {
	s.slices = nil
	for _, f := range netns.Families() {
		s.add(s.slice(strings.ToLower(f.String()), f, lists...))
	}
	return s
}

// add adds slices.
func (s *svc) add(slices ...*discoveryv1.EndpointSlice) *svc {
	s.slices = append(s.slices, slices...)
	return s
}

// slice makes a slice with all of the service's ports, to be changed and added.
func (s *svc) slice(suffix string, f netns.Family, lists ...[]endpoint) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name + "-" + suffix,
			Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}},
		AddressType: discoveryv1.AddressType(f.String()),
		Endpoints:   []discoveryv1.Endpoint{},
	}
	for _, p := range s.Spec.Ports {
		es.Ports = append(es.Ports, discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(p.Protocol), Port: new(p.TargetPort.IntVal)})
	}
	for _, list := range lists {
		for _, e := range list {
			one := e.Endpoint
			one.Addresses = []string{e.host.Addr(f).String()}
			es.Endpoints = append(es.Endpoints, one)
		}
	}
	return es
}

// objects returns the service and its slices.
func (s *svc) objects() []runtime.Object {
	list := []runtime.Object{s.Service}
	for _, es := range s.slices {
		list = append(list, es)
	}
	return list
}

// endpoint is a host as an endpoint. Its Endpoint has no address yet.
type endpoint struct {
	host netns.Host
	discoveryv1.Endpoint
}

// ready makes endpoints that get traffic.
func ready(hosts ...netns.Host) []endpoint { return endpoints(hosts, true, true, false) }

// unready makes endpoints that get none: they may never have been ready.
func unready(hosts ...netns.Host) []endpoint { return endpoints(hosts, false, false, false) }

// draining makes endpoints that terminate and still serve.
func draining(hosts ...netns.Host) []endpoint { return endpoints(hosts, false, true, true) }

// ending makes endpoints that terminate and serve no more.
func ending(hosts ...netns.Host) []endpoint { return endpoints(hosts, false, false, true) }

// plain makes endpoints whose conditions nobody has stated; these count as ready.
func plain(hosts ...netns.Host) []endpoint {
	list := ready(hosts...)
	for i := range list {
		list[i].Conditions = discoveryv1.EndpointConditions{}
	}
	return list
}

func endpoints(hosts []netns.Host, ready, serving, terminating bool) []endpoint {
	var list []endpoint
	for _, h := range hosts {
		e := endpoint{host: h}
		e.Conditions = discoveryv1.EndpointConditions{Ready: new(ready), Serving: new(serving), Terminating: new(terminating)}
		e.NodeName = new(nodeName(h))
		list = append(list, e)
	}
	return list
}

// nodeName returns the name of the node that a host is on.
func nodeName(h netns.Host) string {
	if h.Name() == "remote" {
		return "remote"
	}
	return "node"
}

// nameOf makes a name of a Service out of a row's.
func nameOf(row string) string {
	name := strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(row))
	const longest = 63 - len("-ipv4") // of a slice
	return strings.Trim(name[:min(len(name), longest)], "-")
}
