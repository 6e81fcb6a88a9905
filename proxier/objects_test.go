// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// service returns a Service default/NAME with ClusterIPs and ports such as
// 'http:80', '53/UDP' or 'sig:36412/SCTP'.
func service(name, ips string, ports ...string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.ClusterIPs = strings.Fields(ips)
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	for _, p := range ports {
		name, proto, port := parsePort(p)
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Protocol: proto, Port: port})
	}
	return s
}

func created(s *corev1.Service, at int64) *corev1.Service {
	s.CreationTimestamp = metav1.NewTime(time.Unix(at, 0))
	return s
}

func parsePort(s string) (name string, proto corev1.Protocol, port int32) {
	proto = corev1.ProtocolTCP
	if head, p, ok := strings.Cut(s, "/"); ok {
		s, proto = head, corev1.Protocol(p)
	}
	if n, p, ok := strings.Cut(s, ":"); ok {
		name, s = n, p
	}
	if _, err := fmt.Sscan(s, &port); err != nil {
		panic(err)
	}
	return name, proto, port
}

// endpoints returns an EndpointSlice of a service with one port. Addresses may
// have a suffix: '-' not ready, 'x' nor serving, 't' terminating and serving.
func endpoints(slice, service, port, addrs string) *discoveryv1.EndpointSlice {
	name, proto, number := parsePort(port)
	es := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: slice,
			Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(name), Protocol: ptr.To(proto), Port: ptr.To(number)}},
	}
	for _, a := range strings.Fields(addrs) {
		e := discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}, NodeName: ptr.To("elsewhere")}
		switch a[len(a)-1] {
		case '-':
			e.Conditions.Ready = ptr.To(false)
			a = a[:len(a)-1]
		case 'x':
			e.Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(false), Terminating: ptr.To(false)}
			a = a[:len(a)-1]
		case 't':
			e.Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}
			a = a[:len(a)-1]
		}
		if strings.Contains(a, ":") {
			es.AddressType = discoveryv1.AddressTypeIPv6
		}
		e.Addresses = []string{a}
		es.Endpoints = append(es.Endpoints, e)
	}
	return es
}
