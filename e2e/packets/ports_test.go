// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// Several ports of one service lead to ports of their own.
func TestPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{ports: []uint16{9001, 9002}})
	a, b := w.Local[0], w.RemotePods[0]
	ends := ready(a, b)
	type at struct {
		protocol traffic.Protocol
		port     uint16
		want     expected
	}
	const tcp, udp, sctp = traffic.TCP, traffic.UDP, traffic.SCTP
	rows := []struct {
		name  string
		ports []option
		want  []at
	}{
		{"one without a name", []option{port("", tcp, 80, 9001)},
			[]at{{tcp, 80, spread(a, b).on(9001)}, {udp, 80, refused()}, {sctp, 80, refused()}, {tcp, 9001, refused()}}},
		{"two", []option{port("http", tcp, 80, 9001), port("admin", tcp, 81, 9002)},
			[]at{{tcp, 80, spread(a, b).on(9001)}, {tcp, 81, spread(a, b).on(9002)}}},
		{"two to one", []option{port("http", tcp, 80, 9001), port("alias", tcp, 81, 9001)},
			[]at{{tcp, 80, spread(a, b).on(9001)}, {tcp, 81, spread(a, b).on(9001)}}},
		{"three protocols on one number", []option{port("t", tcp, 53, 9001), port("u", udp, 53, 9002), port("s", sctp, 53, backendPort)},
			[]at{{tcp, 53, spread(a, b).on(9001)}, {udp, 53, spread(a, b).on(9002)}, {sctp, 53, spread(a, b)}}},
		{"the first and the last number", []option{port("first", udp, 1, 9001), port("last", udp, 65535, 9002)},
			[]at{{udp, 1, spread(a, b).on(9001)}, {udp, 65535, spread(a, b).on(9002)}}},
	}
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.service(nameOf(r.name), r.ports...).to(ends)
	}
	w.apply(t, services...)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			for _, at := range r.want {
				for _, f := range netns.Families() {
					for _, from := range w.clients() {
						w.want(t, from, at.protocol, services[i].at(f, at.port), at.want)
					}
				}
			}
		})
	}
}

// A service may have one family only; its endpoints of the other are nobody's.
func TestSingleFamily(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	for _, f := range netns.Families() {
		t.Run(f.String(), func(t *testing.T) {
			s := w.service(nameOf(f.String()), only(f)).to(ready(w.Local[0], w.RemotePods[0]))
			w.apply(t, s)
			for _, p := range traffic.Protocols() {
				for _, from := range w.clients() {
					w.want(t, from, p, s.at(f, servicePort), spread(w.Local[0], w.RemotePods[0]))
				}
			}
		})
	}
}

// Services without an address are not programmed, nor is anything of their slices.
func TestNotProgrammed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	const unique = 9999 // a port that no other endpoint has
	rows := []struct {
		name   string
		option option
	}{
		{"headless", func(s *corev1.Service) { s.Spec.ClusterIPs = []string{corev1.ClusterIPNone} }},
		{"external name", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, "example.com", nil
		}},
	}
	control := w.service("control", port("", traffic.TCP, 80, unique-1)).to(ready(w.Local...))
	w.apply(t, control)
	if !w.hasBackendPort(t, unique-1) {
		t.Fatal("an ordinary service's endpoints are not in the tables")
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			s := w.service(nameOf(r.name), port("", traffic.TCP, 80, unique), r.option).to(ready(w.Local...))
			w.apply(t, s)
			if w.hasBackendPort(t, unique) {
				t.Error("its endpoints are in the tables")
			}
		})
	}
	t.Run("one that becomes headless", func(t *testing.T) {
		control.Spec.ClusterIP, control.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		w.put(t, []runtime.Object{control.Service}...)
		w.programmed(t)
		if w.hasBackendPort(t, unique-1) {
			t.Error("its endpoints are still in the tables")
		}
	})
}

// hasBackendPort tells whether the node's tables hold an endpoint with the port.
func (w *world) hasBackendPort(t *testing.T, port uint16) bool {
	t.Helper()
	for _, table := range w.state(t).Tables {
		for _, elements := range table.Sets {
			for _, v := range elements {
				if v.To.Port() == port {
					return true
				}
			}
		}
	}
	return false
}
