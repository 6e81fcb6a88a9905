// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// created makes the service as old as that many hours.
func created(hours int) option {
	at := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Duration(hours) * time.Hour))
	return func(s *corev1.Service) { s.CreationTimestamp = at }
}

// A ClusterIP is its Service's, and a NodePort at the node's address, too, however old those are that want the
// address as a load balancer's or as an external IP. It follows the node's addresses.
func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--nodeport-addresses", "172.18.0.0/16,fd00:172:18::/64"}})
	a, b := w.Local[0], w.RemotePods[0]
	victim := w.full("victim", created(1)).to(ready(a))
	takes := func(name string, number uint16, at func(netns.Family) string) *svc {
		s := w.service(name, created(2), func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			for _, p := range traffic.Protocols() {
				port(nameOf(p.String()), p, number, backendPort)(s)
			}
			for _, f := range netns.Families() {
				s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, at(f))
				s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: at(f)})
			}
		})
		s.Namespace = "attacker"
		return s.to(ready(b))
	}
	number := uint16(victim.Spec.Ports[0].NodePort)
	thieves := []*svc{
		takes("cluster-ip", servicePort, func(f netns.Family) string { return victim.at(f, 1).Addr().String() }),
		takes("node-port", number, func(f netns.Family) string { return w.Node.Addr(f).String() }),
		takes("late", number, func(f netns.Family) string { return moreAddresses[f].String() }),
	}
	wantAt := func(from netns.Host, host netns.Host, at func(netns.Family) netip.AddrPort) {
		t.Helper()
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				w.want(t, from, p, at(f), spread(host).seen(anySource))
			}
		}
	}
	clusterIP := func(f netns.Family) netip.AddrPort { return victim.at(f, servicePort) }
	nodeAt := func(f netns.Family) netip.AddrPort { return netip.AddrPortFrom(w.Node.Addr(f), number) }
	lateAt := func(f netns.Family) netip.AddrPort { return netip.AddrPortFrom(moreAddresses[f], number) }

	w.apply(t, thieves...)
	wantAt(w.Client, b, clusterIP) // nobody's yet
	wantAt(w.Client, b, nodeAt)
	w.apply(t, victim)
	wantAt(w.Client, a, clusterIP)
	wantAt(w.Client, a, nodeAt)
	wantAt(w.Client, b, lateAt)
	w.remove(t, victim)
	wantAt(w.Client, b, clusterIP)
	w.apply(t, victim)
	wantAt(w.Client, a, clusterIP)
	wantAt(w.Client, a, nodeAt)
	w.wantLog(t, `"Not served: another service has a better claim to this address, protocol and port" servicePort="attacker/node-port:tcp (ip)"`)

	// The node gets the address, and loses it.
	for _, step := range []struct {
		change func(*netlink.Handle, netlink.Link, *netlink.Addr) error
		host   netns.Host
	}{{(*netlink.Handle).AddrAdd, a}, {(*netlink.Handle).AddrDel, b}} {
		w.addAddresses(t, step.change)
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				try := longer(t)
				eventually(t, "the change of an address", func() error {
					return w.check(try(), w.Client, p, lateAt(f), spread(step.host).seen(anySource))
				})
			}
		}
	}
}

// Of two services with the same address, protocol and port the older one is served,
// whichever came first to this node, and the other one at its own addresses. When
// the older one goes, the other takes over.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, fe := range external {
		t.Run(fe.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
			a, b := w.Local[0], w.RemotePods[0]
			first := w.full("first", created(1)).to(ready(a))
			second := w.full("second", created(2), func(s *corev1.Service) {
				switch fe {
				case nodePort:
					for i := range s.Spec.Ports {
						s.Spec.Ports[i].NodePort = first.Spec.Ports[i].NodePort
					}
				case loadBalancer:
					s.Status = first.Status
				case externalIP:
					s.Spec.ExternalIPs = first.Spec.ExternalIPs
				}
			}).to(ready(b))
			want := func(t *testing.T, s *svc, at []frontend, host netns.Host) {
				t.Helper()
				for _, p := range traffic.Protocols() {
					for _, f := range netns.Families() {
						for _, fe := range at {
							w.want(t, w.Client, p, w.address(s, fe, p, f), spread(host).seen(anySource))
						}
					}
				}
			}
			var others []frontend
			for _, o := range []frontend{clusterIP, nodePort, loadBalancer, externalIP} {
				if o != fe {
					others = append(others, o)
				}
			}
			same := []frontend{fe}
			w.apply(t, first)
			want(t, first, same, a)
			w.apply(t, second) // older
			want(t, second, same, b)
			want(t, first, others, a)
			want(t, second, others, b)
			w.wantLog(t, `"Not served: an older service has this address, protocol and port" servicePort="test/first:tcp (ip)"`)
			w.remove(t, second)
			want(t, first, same, a)
			w.apply(t, second)
			want(t, second, same, b)
			second.CreationTimestamp = metav1.Time{Time: first.CreationTimestamp.Add(time.Hour)} // made anew
			w.apply(t, second)
			want(t, first, same, a)
			want(t, second, others, b)
		})
	}
}
