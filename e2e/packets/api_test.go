// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// frontend is a way to reach a service port.
type frontend int

const (
	clusterIP frontend = iota
	nodePort
	loadBalancer
	externalIP
)

// external are the frontends for clients outside the cluster.
var external = []frontend{nodePort, loadBalancer, externalIP}

func (f frontend) String() string {
	return [...]string{"ClusterIP", "NodePort", "load balancer", "external IP"}[f]
}

// Where the addresses of load balancers and external IPs begin in the service range.
const (
	firstLoadBalancer = 1000
	firstExternalIP   = 2000
	firstNodePort     = 30000
)

// address returns where a frontend of the service's port for a protocol is.
func (w *world) address(s *svc, fe frontend, p traffic.Protocol, f netns.Family) netip.AddrPort {
	switch fe {
	case nodePort:
		for _, port := range s.Spec.Ports {
			if string(port.Protocol) == p.String() {
				return netip.AddrPortFrom(w.Node.Addr(f), uint16(port.NodePort))
			}
		}
	case loadBalancer:
		return find(f, s.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) string { return in.IP })
	case externalIP:
		return find(f, s.Spec.ExternalIPs, func(ip string) string { return ip })
	}
	return s.at(f, servicePort)
}

func find[T any](f netns.Family, list []T, text func(T) string) netip.AddrPort {
	for _, e := range list {
		if a := netip.MustParseAddr(text(e)); a.Is6() == (f == netns.IPv6) {
			return netip.AddrPortFrom(a, servicePort)
		}
	}
	return netip.AddrPort{}
}

// full makes a service with every kind of frontend.
func (w *world) full(name string, options ...option) *svc {
	return w.service(name, append([]option{func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		for _, p := range traffic.Protocols() {
			port(nameOf(p.String()), p, servicePort, backendPort)(s)
		}
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = int32(firstNodePort + w.services) // one number in all protocols
		}
		for _, f := range netns.Families() {
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, netns.ServiceAddr(f, firstExternalIP+w.services).String())
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress,
				corev1.LoadBalancerIngress{IP: netns.ServiceAddr(f, firstLoadBalancer+w.services).String()})
		}
	}}, options...)...)
}

func clusterWide(*corev1.Service) {}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	s.Spec.HealthCheckNodePort = s.Spec.Ports[0].NodePort + 1000
}

func internalLocal(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
}

func sourceRanges(ranges ...string) option {
	return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = ranges }
}

func ipMode(m corev1.LoadBalancerIPMode) option {
	return func(s *corev1.Service) {
		for i := range s.Status.LoadBalancer.Ingress {
			s.Status.LoadBalancer.Ingress[i].IPMode = &m
		}
	}
}

// apiRow says what becomes of connections to some frontends of a service, for each
// kind of client.
type apiRow struct {
	name                string
	options             []option
	endpoints           func(w *world) [][]endpoint
	to                  []frontend
	pod, node, outsider expected // with no outcome: not looked at
}

// apiRows are the rows of the Service API with an outcome of their own. here and
// there are endpoints on the node and on the other one.
func apiRows(w *world) []apiRow {
	here, there := w.Local[0], w.RemotePods[0]
	onBoth := func(w *world) [][]endpoint { return [][]endpoint{ready(here, there)} }
	onOther := func(w *world) [][]endpoint { return [][]endpoint{ready(there)} }
	nowhere := func(*world) [][]endpoint { return nil }
	both := spread(here, there)
	is := func(o ...option) []option { return o }
	cluster, all := []frontend{clusterIP}, []frontend{clusterIP, nodePort, loadBalancer, externalIP}
	return []apiRow{
		{"externalTrafficPolicy Cluster", nil, onBoth, external, both.seen(asNode), both.seen(asNode), both.seen(asNode)},
		{"externalTrafficPolicy Cluster, one endpoint", nil, onOther, external, spread(there).seen(asNode), spread(there).seen(asNode), spread(there).seen(asNode)},
		{"externalTrafficPolicy Local", is(externalLocal), onBoth, external, both.seen(asItself), both.seen(asNode), spread(here).seen(asItself)},
		{"externalTrafficPolicy Local, no endpoint here", is(externalLocal), onOther, external, spread(there).seen(asItself), spread(there).seen(asNode), dropped()},
		{"externalTrafficPolicy Local, no endpoint anywhere", is(externalLocal), nowhere, external, refused(), refused(), refused()},
		{"externalTrafficPolicy Local and the ClusterIP", is(externalLocal), onOther, cluster, spread(there), spread(there), spread(there)},
		{"externalTrafficPolicy Local, here they terminate", is(externalLocal),
			func(*world) [][]endpoint { return [][]endpoint{draining(here), ready(there)} }, external,
			spread(there).seen(asItself), spread(there).seen(asNode), spread(here).seen(asItself)},
		{"internalTrafficPolicy Local", is(internalLocal), onBoth, cluster, spread(here), spread(here), spread(here)},
		{"internalTrafficPolicy Local, no endpoint here", is(internalLocal), onOther, cluster, dropped(), dropped(), dropped()},
		{"internalTrafficPolicy Local, no endpoint anywhere", is(internalLocal), nowhere, cluster, refused(), refused(), refused()},
		{"internalTrafficPolicy Local and external addresses", is(internalLocal), onOther, external, spread(there).seen(asNode), spread(there).seen(asNode), spread(there).seen(asNode)},
		{"internalTrafficPolicy Local, here they terminate", is(internalLocal),
			func(*world) [][]endpoint { return [][]endpoint{draining(here), ready(there)} }, cluster, spread(here), spread(here), spread(here)},
		{"both policies Local", is(internalLocal, externalLocal), onBoth, external, both.seen(asItself), both.seen(asNode), spread(here).seen(asItself)},
		{"terminating endpoints only", nil, func(*world) [][]endpoint { return [][]endpoint{draining(here, there), ending(w.RemotePods[1])} }, all, both.seen(anySource), both.seen(anySource), both.seen(anySource)},
		{"no endpoints", nil, nowhere, all, refused(), refused(), refused()},
		{"loadBalancerSourceRanges hold the client", is(sourceRanges("172.18.0.1/32", "10.244.1.0/24", "fd00:172:18::1/128", "fd00:10:244:1::/64")), onOther,
			[]frontend{loadBalancer}, spread(there).seen(asNode), dropped(), spread(there).seen(asNode)},
		{"loadBalancerSourceRanges shut the client out", is(sourceRanges("10.9.0.0/16", "fd00:9::/32")), onOther,
			[]frontend{loadBalancer}, dropped(), dropped(), dropped()},
		{"loadBalancerSourceRanges and other addresses", is(sourceRanges("10.9.0.0/16", "fd00:9::/32")), onOther,
			[]frontend{nodePort, externalIP}, spread(there).seen(asNode), spread(there).seen(asNode), spread(there).seen(asNode)},
		{"loadBalancerSourceRanges of everything", is(sourceRanges("0.0.0.0/0", "::/0")), onOther,
			[]frontend{loadBalancer}, spread(there).seen(asNode), spread(there).seen(asNode), spread(there).seen(asNode)},
		{"loadBalancerSourceRanges that hold the node", is(sourceRanges(" 172.18.0.2/31 ", "fd00:172:18::2/127")), onOther,
			[]frontend{loadBalancer}, dropped(), spread(there).seen(asNode), dropped()},
		{"loadBalancerSourceRanges under the policy Local", is(externalLocal, sourceRanges("172.18.0.1/32", "fd00:172:18::1/128")), onBoth,
			[]frontend{loadBalancer}, dropped(), dropped(), spread(here).seen(asItself)},
		{"hundreds of loadBalancerSourceRanges", is(sourceRanges(manyRanges()...)), onOther,
			[]frontend{loadBalancer}, dropped(), dropped(), spread(there).seen(asNode)},
		{"ipMode VIP", is(ipMode(corev1.LoadBalancerIPModeVIP)), onOther, []frontend{loadBalancer}, spread(there).seen(asNode), spread(there).seen(asNode), spread(there).seen(asNode)},
		{"ipMode Proxy is not captured", is(ipMode(corev1.LoadBalancerIPModeProxy)), onOther, []frontend{loadBalancer}, dropped(), dropped(), expected{}}, // outside and the node send it to each other
		{"hostnames are ignored", is(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = append([]corev1.LoadBalancerIngress{{Hostname: "lb.example"}}, s.Status.LoadBalancer.Ingress...)
		}), onOther, []frontend{externalIP, nodePort}, spread(there).seen(asNode), spread(there).seen(asNode), spread(there).seen(asNode)},
		{"allocateLoadBalancerNodePorts false", is(func(s *corev1.Service) {
			s.Spec.AllocateLoadBalancerNodePorts = new(false)
			for i := range s.Spec.Ports {
				s.Spec.Ports[i].NodePort = 0
			}
		}), onOther, []frontend{loadBalancer, externalIP}, spread(there).seen(asNode), spread(there).seen(asNode), spread(there).seen(asNode)},
		{"endpoint on the node itself", nil, func(w *world) [][]endpoint { return [][]endpoint{ready(w.Node)} }, all,
			spread(w.Node).seen(anySource), spread(w.Node).seen(anySource), spread(w.Node).seen(anySource)},
		{"host network endpoint and externalTrafficPolicy Local", is(externalLocal), func(w *world) [][]endpoint { return [][]endpoint{ready(w.Node)} }, external,
			spread(w.Node).seen(asItself), spread(w.Node).seen(anySource), spread(w.Node).seen(asItself)},
	}
}

func manyRanges() []string {
	list := []string{"172.18.0.1/32", "fd00:172:18::1/128"}
	for i := range 300 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, byte(i >> 4), byte(i << 4)}), 30).String(),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 3: 99, 5: byte(i >> 8), 6: byte(i)}), 60).Masked().String())
	}
	return list
}

// TestServiceAPI sends connections of every protocol over both families to the
// frontends of each row's service, from a pod, from the node and from outside, and
// compares what becomes of them with what `nftproxy explain` says.
func TestServiceAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{node: true, args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	rows := apiRows(w)
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.full(nameOf(r.name), r.options...).to(r.endpoints(w)...)
		w.put(t, services[i].objects()...)
	}
	w.programmed(t)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			said := w.explain(t, services[i])
			if said.Kernel.Holds == nil || !*said.Kernel.Holds {
				t.Errorf("explain says that the kernel does not hold just that: %+v", said.Kernel)
			}
			for _, fe := range r.to {
				for _, p := range traffic.Protocols() {
					for _, f := range netns.Families() {
						to := w.address(services[i], fe, p, f)
						for j, want := range []expected{r.pod, r.node, r.outsider} {
							if want.outcome == 0 {
								continue
							}
							if err := w.check(t.Context(), w.clients()[j], p, to, want); err != nil {
								t.Errorf("from %s to %s %s %s: %v", w.clients()[j].Name(), fe, p, to, err)
								continue
							}
							w.wantSaid(t, said, w.clients()[j], p, to, want)
						}
					}
				}
			}
		})
	}
}

// TestNoExternalIPs: with the feature gate off, externalIPs lead nowhere (KEP-5707), all
// else is served.
func TestNoExternalIPs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--feature-gates", "AllowServiceExternalIPs=false"}})
	a := w.Local[0]
	s := w.full("web").to(ready(a))
	w.apply(t, s)
	each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
		for _, from := range w.clients() {
			w.want(t, from, p, w.address(s, loadBalancer, p, f), spread(a).seen(anySource))
			client := traffic.Client{NS: from.NS, Timeout: 100 * time.Millisecond}
			if r := client.Connect(t.Context(), p, w.address(s, externalIP, p, f)); r.Outcome == traffic.Answered {
				t.Errorf("from %s: %s", from.Name(), r)
			}
		}
	})
}
