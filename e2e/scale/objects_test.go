// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// size is that of a cluster.
type size struct{ services, endpoints int }

func (s size) String() string { return fmt.Sprintf("%dx%d", s.services, s.endpoints) }

// objects returns all Services and EndpointSlices.
func (s size) objects() ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	services := make([]*corev1.Service, s.services)
	list := make([]*discoveryv1.EndpointSlice, s.services)
	for i := range services {
		services[i], list[i] = service(i), endpointSlice(i, 0, s.endpoints)
	}
	return services, list
}

func address(net, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(net + n>>16), byte(n >> 8), byte(n)})
}

func service(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("team-%d", i%100), Name: fmt.Sprintf("web-%d", i),
		UID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", i)), CreationTimestamp: metav1.NewTime(time.Unix(1700000000, 0))}}
	s.Spec.ClusterIP = address(96, i).String()
	s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}
	return s
}

// sticky is a service with session affinity.
func sticky(i int) *corev1.Service {
	s := service(i)
	s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	return s
}

// endpointSlice returns the endpoints of the i-th Service, from one number on up to
// another.
func endpointSlice(i, from, to int) *discoveryv1.EndpointSlice {
	svc := service(i)
	es := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name + "-x7k2p",
			Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(8080))}},
	}
	for n := from; n < to; n++ {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{address(128, 64*i+n).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			NodeName:   ptr.To(fmt.Sprintf("node-%d", (10*i+n)%1000)),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: svc.Namespace, Name: fmt.Sprintf("%s-%d", svc.Name, n)},
		})
	}
	return es
}
