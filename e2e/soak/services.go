// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	namespace = "soak"
	// servicePort and podPort are those of all protocols.
	servicePort = 80
	podPort     = 8080
	// firstNodePort is that of the first Service that has one.
	firstNodePort = 30000
	// victims is how many Services there are besides, to which nobody connects: the other program's.
	victims = 16
)

// role is what happens to a Service.
type role string

// The roles.
const (
	steady role = "steady" // its endpoints stay
	rolled role = "rolled" // endpoints come and go, and one is always ready
	fickle role = "fickle" // it loses all endpoints, or goes away, and comes back
	victim role = "victim" // another program destroys its rules
	probe  role = "probe"  // tells when nftproxy follows again
)

// service is a Service with its EndpointSlices, one for each family.
type service struct {
	name      string
	role      role
	protocols []traffic.Protocol
	families  []netns.Family
	address   int    // the how manieth of the ranges of ClusterIPs
	nodePort  uint16 // 0: none
	affinity  bool
	crowds    map[netns.Family]*crowd
	// away says that there is no such object, label how often one was changed that nftproxy has no use
	// for. Only the Service's writer has to do with them.
	away  bool
	label int
}

// newServices returns n Services, the victims and the probe. Everything that is varied is so for all that
// was varied before.
func newServices(n int, pods []pod) []*service {
	var out []*service
	for i := range n {
		s := &service{name: fmt.Sprintf("web-%05d", i), address: 256 + i, role: roleOf(i), affinity: i%50 == 7}
		s.protocols = [][]traffic.Protocol{{traffic.TCP}, {traffic.TCP, traffic.UDP}, {traffic.UDP}, {traffic.SCTP}}[i%4]
		s.families = [][]netns.Family{{netns.IPv4, netns.IPv6}, {netns.IPv4, netns.IPv6}, {netns.IPv4}, {netns.IPv6}}[i/4%4]
		if i%25 == 0 && i/25 < 2000 {
			s.nodePort = uint16(firstNodePort + i/25)
		}
		s.crowds = newCrowds(s.families, pods, i, []int{1, 2, 3, 5, 10}[i/16%5])
		out = append(out, s)
	}
	both := []netns.Family{netns.IPv4, netns.IPv6}
	for i := range victims {
		s := &service{name: fmt.Sprintf("victim-%02d", i), address: 60000 + i, role: victim, protocols: []traffic.Protocol{traffic.TCP}, families: both}
		s.crowds = newCrowds(both, pods, i, 1+i%2*2)
		out = append(out, s)
	}
	last := &service{name: "zz-probe", address: 61000, role: probe, protocols: []traffic.Protocol{traffic.TCP}, families: both}
	last.crowds = newCrowds(both, pods, 0, 1)
	return append(out, last)
}

// roleOf gives ten Services that are alike in all else different roles: four stay, five are rolled, one is fickle.
func roleOf(i int) role {
	switch n := (i + i/16 + 2*(i/80)) % 10; {
	case n < 4:
		return steady
	case n < 9:
		return rolled
	}
	return fickle
}

func newCrowds(families []netns.Family, pods []pod, first, n int) map[netns.Family]*crowd {
	out := map[netns.Family]*crowd{}
	for _, f := range families {
		out[f] = newCrowd(f, pods, first, n)
	}
	return out
}

// at returns where clients connect to in a family.
func (s *service) at(f netns.Family) netip.AddrPort {
	return netip.AddrPortFrom(netns.ServiceAddr(f, s.address), servicePort)
}

func apiProtocol(p traffic.Protocol) corev1.Protocol { return corev1.Protocol(p.String()) }

// object is the Service as the API server has it.
func (s *service) object() *corev1.Service {
	policy := corev1.IPFamilyPolicySingleStack
	if len(s.families) > 1 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	out := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Labels: map[string]string{"changes": strconv.Itoa(s.label)}},
		Spec:       corev1.ServiceSpec{IPFamilyPolicy: &policy, Type: corev1.ServiceTypeClusterIP},
	}
	for _, f := range s.families {
		out.Spec.IPFamilies = append(out.Spec.IPFamilies, corev1.IPFamily(f.String()))
		out.Spec.ClusterIPs = append(out.Spec.ClusterIPs, s.at(f).Addr().String())
	}
	out.Spec.ClusterIP = out.Spec.ClusterIPs[0]
	if s.nodePort != 0 {
		out.Spec.Type = corev1.ServiceTypeNodePort
	}
	if s.affinity {
		out.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	for _, p := range s.protocols {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: strings.ToLower(p.String()), Protocol: apiProtocol(p),
			Port: servicePort, TargetPort: intstr.FromInt32(podPort), NodePort: int32(s.nodePort)})
	}
	return out
}

// slice is the EndpointSlice of a family as the API server has it, with these endpoints.
func (s *service) slice(f netns.Family, e endpoints) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: s.sliceName(f), Labels: map[string]string{discoveryv1.LabelServiceName: s.name}},
		AddressType: discoveryv1.AddressType(f.String()),
	}
	for _, p := range s.protocols {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: ptr.To(strings.ToLower(p.String())), Port: ptr.To(int32(podPort)), Protocol: ptr.To(apiProtocol(p))})
	}
	add := func(pods []pod, ready bool) {
		for _, p := range pods {
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{p.Addr(f).String()}, NodeName: ptr.To(p.node),
				Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(ready), Serving: ptr.To(true), Terminating: ptr.To(!ready)},
				TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: p.name}})
		}
	}
	add(e.ready, true)
	add(e.terminating, false)
	return out
}

func (s *service) sliceName(f netns.Family) string { return s.name + "-" + strings.ToLower(f.String()) }
