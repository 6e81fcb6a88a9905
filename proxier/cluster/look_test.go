// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/reason"
)

type deaf struct{}

func (deaf) Changed()             {}
func (deaf) SetNodeEligible(bool) {}

// TestLook: a pod that takes the place of another at its address is told of, and Services without an address until they are gone.
func TestLook(t *testing.T) {
	c := New(Config{NodeName: "here"}, deaf{})
	s, l, n := NewSink(c), NewLooker(c), ObjectName{"default", "web"}
	meta := metav1.ObjectMeta{Namespace: n.Namespace, Name: n.Name, Labels: map[string]string{discoveryv1.LabelServiceName: n.Name}}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Port: 80}}}}
	s.UpdateService(service)
	for _, pod := range []string{"old", "new"} {
		s.UpdateEndpointSlice(&discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr.To[int32](8080)}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.1.1"}, NodeName: ptr.To("there"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod}}}})
		look, ok := l.Look(n, true)
		if !ok || look.Type != "NodePort" || len(look.Endpoints) != 1 || look.Endpoints[0].Pod != pod || look.Endpoints[0].Node != "there" {
			t.Errorf("%+v", look)
		}
	}
	if list := l.Services("", ObjectName{}); len(list) != 1 || len(l.Services("", n)) != 0 || len(l.Services("other", ObjectName{})) != 0 {
		t.Errorf("services %v", list)
	}
	service = service.DeepCopy()
	service.Spec.ClusterIP = corev1.ClusterIPNone
	s.UpdateService(service)
	if _, ok := l.Look(n, true); ok || l.Unaddressed(n) != reason.Headless {
		t.Errorf("a headless Service is served, or is not known: %v", l.Unaddressed(n))
	}
	s.DeleteService(n.Namespace, n.Name)
	if l.Unaddressed(n) != 0 {
		t.Error("it is gone, and yet known")
	}
	s.UpdateService(service)
	s.ReplaceServices(nil)
	if l.Unaddressed(n) != 0 {
		t.Error("it is gone from the list, and yet known")
	}
}
