// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// wantFresh checks that the kernel holds what nftproxy would program if it started
// now on a node without tables.
func (w *world) wantFresh(t *testing.T) {
	t.Helper()
	if out := w.run(t, append([]string{"diff"}, w.args[1:]...)...); !strings.HasPrefix(out, "equal: ") {
		t.Errorf("the kernel holds something else than after a fresh start:\n%s", out)
	}
}

// Each field of a Service is changed and changed back, alone, with all others as they
// happen to be. After each step the kernel holds what a fresh start would program,
// and nothing is left over.
func TestSequence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	w.put(t, nodeObject(zone("a")))
	w.apply(t, w.full("bystander", sticky(60)).to(ready(w.Local[0], w.RemotePods[0])))
	base := w.full("web")
	none := w.run(t, "dump", "--kernel")
	ports := base.Spec.Ports
	switches := []struct {
		name    string
		on, off option
	}{
		{"externalTrafficPolicy", externalLocal, func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = "", 0 }},
		{"internalTrafficPolicy", internalLocal, func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = nil }},
		{"sessionAffinity", sticky(600), func(s *corev1.Service) { s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = "", nil }},
		{"loadBalancerSourceRanges", sourceRanges("10.9.0.0/16", "10.8.0.0/16", "fd00:9::/32"), sourceRanges()},
		{"scheduler", scheduler("random"), scheduler("round-robin")},
		{"another scheduler", scheduler("source-hash"), func(s *corev1.Service) { s.Annotations = nil }},
		{"type", func(s *corev1.Service) {
			s.Spec.Type, s.Status = corev1.ServiceTypeClusterIP, corev1.ServiceStatus{}
			s.Spec.Ports = clearNodePorts(ports)
		}, func(s *corev1.Service) {
			s.Spec.Type, s.Status, s.Spec.Ports = corev1.ServiceTypeLoadBalancer, base.Status, ports
		}},
		{"ports", func(s *corev1.Service) { s.Spec.Ports = ports[:1] }, func(s *corev1.Service) { s.Spec.Ports = ports }},
		{"externalIPs", func(s *corev1.Service) { s.Spec.ExternalIPs = nil }, func(s *corev1.Service) { s.Spec.ExternalIPs = base.Spec.ExternalIPs }},
		{"families", func(s *corev1.Service) { s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1] }, func(s *corev1.Service) { s.Spec.ClusterIPs = base.Spec.ClusterIPs }},
		{"load balancers' addresses", func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} }, func(s *corev1.Service) { s.Status = base.Status }},
		{"timeout", sticky(60), func(s *corev1.Service) { s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = "", nil }},
	}
	endpoints := [][]endpoint{
		nil, ready(w.Local[0]), ready(w.Local[0], w.RemotePods[0]), draining(w.Local[0]), ready(w.RemotePods[0], w.RemotePods[1]),
		append(draining(w.Local[0]), ready(w.RemotePods[0])...), append(hinted(w.Local[0], []string{"a"}, nil), hinted(w.RemotePods[0], []string{"b"}, nil)...),
	}
	s := &svc{Service: base.DeepCopy()}
	step := 0
	// Of every two switches each combination occurs, and of every three many.
	for _, order := range [][]int{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {11, 3, 7, 0, 9, 2, 10, 5, 8, 1, 6, 4}} {
		for _, on := range []bool{true, false} {
			for _, i := range order {
				sw := switches[i]
				change := sw.off
				if on {
					change = sw.on
				}
				change(s.Service)
				for more := range 3 { // the change alone first, then the endpoints, too
					if more > 0 {
						step++
					}
					w.apply(t, s.to(endpoints[step%len(endpoints)]))
					if w.wantFresh(t); t.Failed() {
						t.Fatalf("step %d: %s %v, endpoints %d", step, sw.name, on, step%len(endpoints))
					}
				}
			}
		}
	}
	w.remove(t, s)
	if diff := cmp.Diff(withoutBarrier(none), withoutBarrier(w.run(t, "dump", "--kernel"))); diff != "" {
		t.Errorf("something is left over (-before +after):\n%s", diff)
	}
	w.listRuleset(t)
}

func clearNodePorts(ports []corev1.ServicePort) []corev1.ServicePort {
	var list []corev1.ServicePort
	for _, p := range ports {
		p.NodePort = 0
		list = append(list, p)
	}
	return list
}

// withoutBarrier leaves out what the tests' own service has.
func withoutBarrier(dump string) string {
	barrier := netns.ServiceAddr(netns.IPv4, 65534).String()
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if !strings.Contains(line, barrier) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Bad and extreme objects are skipped or served, with a message, and the others go on.
func TestExtremeObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	good := w.service("good").to(ready(w.Local[0]))
	longest := w.service(strings.Repeat("n", 63), func(s *corev1.Service) { s.Namespace = strings.Repeat("m", 63) }).to(ready(w.Local[0], w.RemotePods[0]))
	for _, es := range longest.slices {
		es.Namespace, es.Name = longest.Namespace, "slice-"+strings.ToLower(string(es.AddressType))
	}
	many := w.service("many-ports", func(s *corev1.Service) {
		for i := range 300 {
			port(fmt.Sprintf("port-%d", i), 6, uint16(1000+i), backendPort)(s)
		}
	}).to(ready(w.Local[0], w.RemotePods[0]))
	w.apply(t, good, longest, many)
	w.wantEverywhere(t, good, spread(w.Local[0]))
	w.wantEverywhere(t, longest, spread(w.Local[0], w.RemotePods[0]))
	for _, f := range netns.Families() {
		w.want(t, w.Client, 6, many.at(f, 1299), spread(w.Local[0], w.RemotePods[0]))
	}

	bad := w.service("bad-object", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"nowhere"} })
	zero := w.service("zero-port", port("zero", 6, 0, backendPort))
	w.put(t, bad.objects()...)
	w.put(t, zero.objects()...)
	w.wantLog(t, "bad-object")
	w.wantLog(t, "zero-port")
	w.programmed(t)
	w.wantEverywhere(t, good, spread(w.Local[0]))

	crowd := w.service("crowd")
	for _, f := range netns.Families() {
		es := crowd.slice(nameOf(f.String()), f, ready(w.Local[0]))
		for i := range 999 { // not there, and so not ready
			e := unready(w.RemotePods[0])[0].Endpoint
			e.Addresses = []string{netns.ServiceAddr(f, 10000+i).String()}
			es.Endpoints = append(es.Endpoints, e)
		}
		crowd.add(es)
	}
	w.apply(t, crowd)
	w.wantEverywhere(t, crowd, spread(w.Local[0]))
	w.listRuleset(t)
}
