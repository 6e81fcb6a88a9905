// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// manyAddrs returns n addresses from 10.first.0.0 on.
func manyAddrs(first byte, n int) (out []string) {
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{10, first + byte(i>>16), byte(i >> 8), byte(i)}).String())
	}
	return out
}

// manyPorts gives a Service n ports, and returns those of an EndpointSlice for them.
func manyPorts(s *corev1.Service, n int) (list []discoveryv1.EndpointPort) {
	s.Spec.Ports = nil
	for i := range n {
		name := fmt.Sprintf("p%05d", i)
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(i + 1)})
		list = append(list, discoveryv1.EndpointPort{Name: &name, Port: ptr.To(int32(i + 1)), Protocol: ptr.To(corev1.ProtocolTCP)})
	}
	return list
}

// elements counts the elements of IPv4 sets of a kind.
func elements(s rules.State, k rules.SetKind) (n int) {
	for id, set := range s.Tables[rules.IPv4].Sets {
		if id.Kind == k {
			n += len(set)
		}
	}
	return n
}

// leftOut returns what the metric says is left out: endpoints, frontends, ports, source ranges and sets.
func (n *node) leftOut() string {
	n.t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		if f.GetName() == "nftproxy_left_out" {
			for _, m := range f.GetMetric() {
				out = append(out, fmt.Sprintf("%s %.0f", m.GetLabel()[0].GetValue(), m.GetGauge().GetValue()))
			}
		}
	}
	return strings.Join(out, ", ")
}

// TestBounds: a Service that asks for too much has the rest left out, which is told once. Its ClusterIP and NodePorts
// stay, and other Services do not wait for it. What large Services of the real world ask for is not cut.
func TestBounds(t *testing.T) {
	big := func(change func(s *corev1.Service, es *discoveryv1.EndpointSlice)) []any {
		s, es := nodePorts(service("big", "10.96.0.1", "80"), 30080), endpoints("big", "big", "80", "10.0.0.1 10.0.0.2")
		es.Ports[0].Name = ptr.To("")
		change(s, es)
		return []any{s, es}
	}
	const none = "endpoint 0, frontend 0, port 0, set 0, source-range 0"
	for _, tt := range []struct {
		name              string
		objects           []any
		leftOut, tell     string
		frontends, shared int // elements that lead to the Service, and copies of its endpoints; -1: not looked at
	}{
		{"an external IP for each of 5,000 nodes", big(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			external(s, strings.Join(manyAddrs(100, 5000), " "))
		}), none, "", 5001, 0},
		{"as many external IPs as an object has room for", big(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			external(s, strings.Join(manyAddrs(100, 100000), " "))
		}), "endpoint 0, frontend 67232, port 0, set 0, source-range 0",
			"IPv4: it has 100000 addresses outside the cluster and 1 ports, together more than 32768: the first 32768 addresses are served", 32769, 0},
		{"load balancers' addresses before external IPs", big(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			external(balanced(s, "10.255.0.1"), strings.Join(manyAddrs(100, 40000), " "))
		}), "endpoint 0, frontend 7233, port 0, set 0, source-range 0", "the first 32768 addresses are served", 32769, 0},
		{"addresses and ports", big(func(s *corev1.Service, es *discoveryv1.EndpointSlice) {
			es.Ports = manyPorts(external(s, strings.Join(manyAddrs(100, 20000), " ")), 100)
		}), "endpoint 0, frontend 1967300, port 0, set 0, source-range 0", "the first 327 addresses are served", 100 + 32700, 0},
		{"one address many times", big(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			external(s, strings.Repeat("10.200.0.1 ", 100000))
		}), none, "", 2, 0},
		{"random", big(func(s *corev1.Service, es *discoveryv1.EndpointSlice) {
			s.Annotations = map[string]string{cluster.SchedulerAnnotation: "random"}
			external(s, strings.Join(manyAddrs(100, 2000), " "))
			es.Endpoints = endpoints("", "", "1", strings.Join(manyAddrs(50, 1000), " ")).Endpoints
		}), none, "", 2001, 0},
		{"random, a few", big(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Annotations = map[string]string{cluster.SchedulerAnnotation: "random"}
			external(s, strings.Join(manyAddrs(100, 3), " "))
		}), none, "", 4, 8},
		{"20,000 ports at a load balancer", big(func(s *corev1.Service, es *discoveryv1.EndpointSlice) {
			es.Ports = manyPorts(balanced(s, "10.200.0.1"), 20000)
		}), none, "", 40000, 0},
		{"more ports", big(func(s *corev1.Service, es *discoveryv1.EndpointSlice) {
			es.Ports = manyPorts(s, 30000)
		}), "endpoint 0, frontend 0, port 10000, set 0, source-range 0", "it has 30000 ports, more than 20000", 20000, 0},
		{"ports with session affinity", big(func(s *corev1.Service, es *discoveryv1.EndpointSlice) {
			es.Ports = manyPorts(s, 5000)
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		}), "endpoint 0, frontend 0, port 0, set 904, source-range 0", "it has 5000 ports with session affinity or loadBalancerSourceRanges, more than 4096", 5000, 0},
		{"ports and endpoints", big(func(s *corev1.Service, es *discoveryv1.EndpointSlice) {
			es.Ports = manyPorts(s, 5000)
			es.Endpoints = endpoints("", "", "1", strings.Join(manyAddrs(50, 55), " ")).Endpoints
		}), "endpoint 15000, frontend 0, port 0, set 0, source-range 0", "3 endpoints more than 52, which this Service can have for each port", 5000, 0},
		{"source ranges", big(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			balanced(s, "10.200.0.1")
			for i := range 70000 {
				s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 15), byte(i >> 7), byte(i << 1)}), 32).String())
			}
		}), "endpoint 0, frontend 0, port 0, set 0, source-range 4464", "it has 70000 loadBalancerSourceRanges and 1 ports, together more than 65536: the first 65536 ranges count", 2, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, &rulestest.Kernel{})
				defer n.stop()
				n.lists(append(tt.objects, service("web", "10.96.0.9", "80"), endpoints("w", "web", "8080", "10.0.0.9"))...)
				n.expect("10.96.0.9:80", "10.0.0.9:8080")
				if got := n.leftOut(); got != tt.leftOut {
					t.Errorf("left out: %s, want %s", got, tt.leftOut)
				}
				kernel := n.kernel.State()
				if got := elements(kernel, rules.ServiceIPs) - 1 + elements(kernel, rules.Single); got != tt.frontends {
					t.Errorf("%d frontends, want %d", got, tt.frontends)
				}
				if got := elements(kernel, rules.Backends); got != tt.shared {
					t.Errorf("%d copies of endpoints, want %d", got, tt.shared)
				}
				if got := elements(kernel, rules.Endpoints); got > 1<<18 {
					t.Errorf("%d endpoints", got)
				}
				told := 0
				for _, e := range n.events {
					if tt.tell != "" && strings.Contains(e, "InvalidService: ") && strings.Contains(e, tt.tell) && len(e) < 1000 {
						told++
					}
				}
				if want := min(len(tt.tell), 1); told != want || len(n.events) != want {
					t.Errorf("%d of %d events tell %q, want %d: %.2000q", told, len(n.events), tt.tell, want, n.events)
				}
				// It changes, beside another Service, and goes.
				if tt.frontends < 10000 { // the kernel in memory takes its time for more
					big := tt.objects[0].(*corev1.Service).DeepCopy()
					big.Annotations = map[string]string{cluster.SchedulerAnnotation: "source-hash"}
					n.UpdateService(big)
					n.UpdateEndpointSlice(endpoints("w", "web", "8080", "10.0.0.10"))
					synctest.Wait()
					n.expect("10.96.0.9:80", "10.0.0.10:8080")
				}
				n.DeleteService("default", "big")
				synctest.Wait()
				if got := n.leftOut(); got != none {
					t.Errorf("when it is gone, left out: %s", got)
				}
			})
		})
	}
}

// TestManyFaults: one event of bounded length tells of thousands.
func TestManyFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		var bad []string
		for i := range 10000 {
			bad = append(bad, fmt.Sprintf("x%d", i))
		}
		mixed := endpoints("a", "web", "8080", strings.Repeat("fd00::1 10.0.0.1 ", 5000))
		mixed.AddressType = discoveryv1.AddressTypeIPv4
		n.lists(external(service("web", "10.96.0.1", "80"), strings.Join(bad, " ")), mixed)
		n.expect("10.96.0.1:80", "10.0.0.1:8080")
		if len(n.events) != 2 || len(n.events[0])+len(n.events[1]) > 6000 || !strings.Contains(n.events[0], "and 9992 more parts of it cannot be used") ||
			!strings.Contains(n.events[1], "and 4992 more parts of it cannot be used") {
			t.Errorf("events: %.3000q", n.events)
		}
		if lines := strings.Count(n.log.String(), "Skipped"); lines != 18 {
			t.Errorf("%d lines in the log, want 18", lines)
		}
	})
}

// BenchmarkBigService changes a Service with many addresses, ports or slices, from the events to the transactions. The time
// doubles with the size.
func BenchmarkBigService(b *testing.B) {
	for _, kind := range []string{"externalIPs", "conflicts", "ports", "slices", "duplicates"} {
		for _, size := range []int{2500, 5000, 10000, 20000} {
			b.Run(fmt.Sprintf("%s=%d", kind, size), func(b *testing.B) {
				p := proxier.New(proxier.Config{Cluster: cluster.Config{NodeName: "here"}})
				objects := bigObjects(kind, size)
				for b.Loop() {
					p.ReplaceServices(objects.services)
					p.ReplaceEndpointSlices(objects.slices)
					p.BuildAll()
					p.ReplaceEndpointSlices(nil)
					p.ReplaceServices(nil)
					p.BuildAll()
				}
			})
		}
	}
}

type bigList struct {
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
}

func bigObjects(kind string, size int) (out bigList) {
	s, es := service("big", "10.96.0.1", "80"), endpoints("big", "big", "80", "10.0.0.1 10.0.0.2")
	out.services, out.slices = []*corev1.Service{s}, []*discoveryv1.EndpointSlice{es}
	switch kind {
	case "externalIPs", "duplicates":
		external(s, strings.Join(manyAddrs(100, size), " "))
		if kind == "duplicates" {
			external(s, strings.Repeat("10.100.0.1 ", size))
		}
	case "conflicts":
		external(s, strings.Join(manyAddrs(100, size), " "))
		out.services = append(out.services, external(service("other", "10.96.0.2", "80"), strings.Join(manyAddrs(100, size), " ")))
	case "ports":
		es.Ports = manyPorts(s, size)
	case "slices":
		out.slices = nil
		addrs := manyAddrs(50, size)
		for i := range size {
			out.slices = append(out.slices, endpoints(fmt.Sprint("s", i), "big", "80", addrs[i]))
		}
	}
	return out
}
