// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// addresses are a node's own: they implement proxier.Addresses.
type addresses struct {
	mu      sync.Mutex
	list    []netip.Addr
	changed chan struct{}
}

func (a *addresses) Addrs() []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list
}

// Primary returns the first of each family.
func (a *addresses) Primary() (first [2]netip.Addr) {
	for _, addr := range a.Addrs() {
		if f := rules.FamilyOf(addr); !first[f].IsValid() {
			first[f] = addr
		}
	}
	return first
}

func (a *addresses) Changed() <-chan struct{} { return a.changed }

// set gives the node its addresses.
func (a *addresses) set(list string) {
	a.mu.Lock()
	a.list = nil
	for s := range strings.FieldsSeq(list) {
		a.list = append(a.list, netip.MustParseAddr(s))
	}
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// startAt runs a proxier of a node with addresses of its own.
func startAt(t *testing.T, kernel *rulestest.Kernel, own string, change func(*proxier.Config)) (*node, *addresses) {
	a := &addresses{changed: make(chan struct{}, 1)}
	a.set(own)
	n := &node{t: t, kernel: kernel, ports: loopback{}, registry: prometheus.NewRegistry()}
	metrics := proxier.NewMetrics()
	n.registry.MustRegister(metrics)
	c := proxier.Config{Cluster: cluster.Config{NodeName: "here", Addresses: a}, Kernel: kernel, Logger: n.logger(), Conntrack: n, Events: n, Metrics: metrics}
	if change != nil {
		change(&c)
	}
	n.Proxier = proxier.New(c)
	n.ReplaceNodes(nil)
	n.ReplaceServiceCIDRs(nil)
	n.stop = func() {}
	return n, a
}

// run begins to program, until the test calls stop.
func (n *node) run() {
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	}
}

// with changes a Service.
func with(s *corev1.Service, change func(*corev1.Service)) *corev1.Service {
	change(s)
	return s
}

func external(s *corev1.Service, ips string) *corev1.Service {
	s.Spec.ExternalIPs = strings.Fields(ips)
	return s
}

func balanced(s *corev1.Service, ips string) *corev1.Service {
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	for ip := range strings.FieldsSeq(ips) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return s
}

func nodePorts(s *corev1.Service, numbers ...int32) *corev1.Service {
	for i, n := range numbers {
		s.Spec.Ports[i].NodePort = n
	}
	if s.Spec.Type == "" {
		s.Spec.Type = corev1.ServiceTypeNodePort
	}
	return s
}

// in puts an object into another namespace.
func in(namespace string, s *corev1.Service) *corev1.Service {
	s.Namespace = namespace
	return s
}

func inNamespace(namespace string, s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s.Namespace = namespace
	return s
}

// TestClaimOrder: an address goes to whom it is a ClusterIP of, then a NodePort, then a load balancer's address, then an
// external IP, however old they are, and in whatever order they come.
func TestClaimOrder(t *testing.T) {
	const own = "192.0.2.1 fd00:2::1"
	for _, tt := range []struct {
		name          string
		winner, loser func(v6 bool) *corev1.Service
		at            [2]string
		tell          string
	}{
		{"ClusterIP before external IP", func(v6 bool) *corev1.Service { return service("w", pick(v6, "10.96.0.1", "fd00::1"), "80") },
			func(v6 bool) *corev1.Service {
				return external(service("l", pick(v6, "10.96.0.2", "fd00::2"), "80"), pick(v6, "10.96.0.1", "fd00::1"))
			},
			[2]string{"10.96.0.1:80", "[fd00::1]:80"}, "it is the ClusterIP of another Service"},
		{"ClusterIP before load balancer", func(v6 bool) *corev1.Service { return service("w", pick(v6, "10.96.0.1", "fd00::1"), "80") },
			func(v6 bool) *corev1.Service {
				return balanced(service("l", pick(v6, "10.96.0.2", "fd00::2"), "80"), pick(v6, "10.96.0.1", "fd00::1"))
			},
			[2]string{"10.96.0.1:80", "[fd00::1]:80"}, "it is the ClusterIP of another Service"},
		{"load balancer before external IP", func(v6 bool) *corev1.Service {
			return balanced(service("w", pick(v6, "10.96.0.1", "fd00::1"), "80"), pick(v6, "10.200.0.1", "fd00:200::1"))
		}, func(v6 bool) *corev1.Service {
			return external(service("l", pick(v6, "10.96.0.2", "fd00::2"), "80"), pick(v6, "10.200.0.1", "fd00:200::1"))
		}, [2]string{"10.200.0.1:80", "[fd00:200::1]:80"}, "it is the load balancer address of another Service"},
		{"NodePort before external IP", func(v6 bool) *corev1.Service {
			return nodePorts(service("w", pick(v6, "10.96.0.1", "fd00::1"), "80"), 30080)
		}, func(v6 bool) *corev1.Service {
			return external(service("l", pick(v6, "10.96.0.2", "fd00::2"), "30080"), pick(v6, "192.0.2.1", "fd00:2::1"))
		}, [2]string{"192.0.2.1:30080", "[fd00:2::1]:30080"}, "it is the NodePort of another Service"},
		{"NodePort before load balancer", func(v6 bool) *corev1.Service {
			return nodePorts(service("w", pick(v6, "10.96.0.1", "fd00::1"), "80"), 30080)
		}, func(v6 bool) *corev1.Service {
			return balanced(service("l", pick(v6, "10.96.0.2", "fd00::2"), "30080"), pick(v6, "192.0.2.1", "fd00:2::1"))
		}, [2]string{"192.0.2.1:30080", "[fd00:2::1]:30080"}, "it is the NodePort of another Service"},
	} {
		for _, v6 := range []bool{false, true} {
			for _, order := range []string{"winner first", "loser first", "both listed"} {
				t.Run(fmt.Sprintf("%s, IPv6 %v, %s", tt.name, v6, order), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						n, _ := startAt(t, &rulestest.Kernel{}, own, nil)
						n.run()
						defer func() { n.stop() }()
						winner, loser := in("victim", created(tt.winner(v6), 200)), in("attacker", created(tt.loser(v6), 100))
						host := pick(v6, "10.0.0.", "fd01::")
						slices := []any{inNamespace("victim", endpoints("w", "w", "8080", host+"1")), inNamespace("attacker", endpoints("l", "l", "8080", host+"2"))}
						switch order {
						case "winner first":
							n.lists(append(slices, winner)...)
							n.UpdateService(loser)
						case "loser first":
							n.lists(append(slices, loser)...)
							n.UpdateService(winner)
						default:
							n.lists(append(slices, loser, winner)...)
						}
						synctest.Wait()
						to, want, other := tt.at[pick(v6, 0, 1)], netip.AddrPortFrom(netip.MustParseAddr(host+"1"), 8080).String(), netip.AddrPortFrom(netip.MustParseAddr(host+"2"), 8080).String()
						n.expect(to, want)
						n.expectEvents("Service attacker/l  FrontendConflict: ")
						n.log.Reset()
						// The winner goes, the other has it; made anew, it has it at once.
						n.DeleteService("victim", "w")
						synctest.Wait()
						n.expect(to, other)
						n.UpdateService(winner)
						synctest.Wait()
						n.expect(to, want)
						if len(n.events) != 1 || !strings.Contains(n.events[0], tt.tell) || strings.Contains(n.events[0], "victim") {
							t.Errorf("events %q, want one with %q that does not name the other namespace", n.events, tt.tell)
						}
						if !strings.Contains(n.log.String(), `"servedInstead"="victim/w`) {
							t.Errorf("the log does not say who has it:\n%s", n.log.String())
						}
					})
				})
			}
		}
	}
}

func pick[T any](second bool, a, b T) T {
	if second {
		return b
	}
	return a
}

// TestClaimsOfOne: what a Service has twice is no conflict.
func TestClaimsOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := startAt(t, &rulestest.Kernel{}, "192.0.2.1", nil)
		n.run()
		defer func() { n.stop() }()
		s := external(balanced(nodePorts(service("web", "10.96.0.1", "30080"), 30080), "10.200.0.1 10.200.0.1 10.96.0.1"), "10.96.0.1 10.200.0.1 192.0.2.1 192.0.2.1")
		s.Spec.LoadBalancerSourceRanges = []string{"10.244.0.0/16"}
		n.lists(s, endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"))
		for _, to := range []string{"10.96.0.1:30080", "10.200.0.1:30080", "192.0.2.1:30080"} {
			n.expect(to, "10.0.0.1:8080 10.0.0.2:8080")
		}
		n.expectEvents()
		n.DeleteService("default", "web")
		synctest.Wait()
		if got := n.kernel.State().Tables[0].Sets[rules.SetID{Kind: rules.ServiceIPs}]; len(got) > 0 {
			t.Errorf("left of it: %v", got)
		}
	})
}

// TestNodePortAtNewAddress: which addresses a NodePort has before load balancers' and external IPs follows the node's.
func TestNodePortAtNewAddress(t *testing.T) {
	for name, where := range map[string]cluster.NodePortAddresses{
		"all":   {CIDRs: prefixes("0.0.0.0/0", "::/0")},
		"CIDRs": {CIDRs: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("fd00:2::/64")}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, own := startAt(t, &rulestest.Kernel{}, "192.0.2.1", func(c *proxier.Config) { c.Cluster.NodePorts = where })
				n.run()
				defer func() { n.stop() }()
				n.lists(created(nodePorts(service("web", "10.96.0.1", "80"), 30080), 200), endpoints("a", "web", "8080", "10.0.0.1"),
					created(external(service("other", "10.96.0.2", "30080"), "203.0.113.9"), 100), endpoints("b", "other", "8080", "10.0.0.2"))
				n.expect("203.0.113.9:30080", "10.0.0.2:8080")
				n.expectEvents()
				own.set("192.0.2.1 203.0.113.9")
				synctest.Wait()
				n.expect("203.0.113.9:30080", "10.0.0.1:8080")
				n.expectEvents("default/other  FrontendConflict: 203.0.113.9:30080/tcp is not served for default/other: it is the NodePort of default/web")
				own.set("192.0.2.1")
				synctest.Wait()
				n.expect("203.0.113.9:30080", "10.0.0.2:8080")
				own.set("203.0.113.9 192.0.2.1")
				synctest.Wait()
				n.expect("203.0.113.9:30080", "10.0.0.1:8080")
				n.UpdateService(created(nodePorts(service("web", "10.96.0.1", "80"), 30081), 200))
				synctest.Wait()
				n.expect("203.0.113.9:30080", "10.0.0.2:8080")
				n.expect("203.0.113.9:30081", "10.0.0.1:8080")
			})
		})
	}
}

// TestClaimsOfTheNodesAddress is the policy primary: the Node object says which address that is.
func TestClaimsOfTheNodesAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(nodePorts(service("web", "10.96.0.1", "80"), 30080), endpoints("a", "web", "8080", "10.0.0.1"),
			external(service("other", "10.96.0.2", "30080"), "192.0.2.7"), endpoints("b", "other", "8080", "10.0.0.2"))
		n.expect("192.0.2.7:30080", "10.0.0.2:8080")
		here := &corev1.Node{}
		here.Name = "here"
		here.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}}
		n.UpdateNode(here)
		synctest.Wait()
		n.expect("192.0.2.7:30080", "10.0.0.1:8080")
		// Another protocol is another frontend.
		n.UpdateService(external(service("other", "10.96.0.2", "30080/UDP"), "192.0.2.7"))
		n.UpdateEndpointSlice(endpoints("b", "other", "8080/UDP", "10.0.0.2"))
		synctest.Wait()
		n.expect("192.0.2.7:30080/UDP", "10.0.0.2:8080")
	})
}

// TestManyConflicts: one event of bounded length tells of thousands.
func TestManyConflicts(t *testing.T) {
	for _, kind := range []string{"addresses", "ports"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, &rulestest.Kernel{})
				defer n.stop()
				n.lists()
				for i, name := range []string{"web", "other"} {
					s := created(service(name, fmt.Sprint("10.96.0.", 1+i), "80"), int64(i))
					if kind == "addresses" {
						external(s, strings.Join(manyAddrs(100, 2000), " "))
					} else {
						manyPorts(external(s, "10.200.0.1"), 2000)
					}
					n.UpdateService(s)
				}
				synctest.Wait()
				if len(n.events) != 1 || len(n.events[0]) > 1000 || !strings.Contains(n.events[0], "and 1997 more are not") {
					t.Errorf("%d events, the first of which is %.1000q", len(n.events), n.events)
				}
				if lines := strings.Count(n.log.String(), "Not served"); lines != 4 {
					t.Errorf("%d lines in the log, want 4", lines)
				}
			})
		})
	}
}

func ports(list ...string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

// TestAPIServers: nobody gets the address and port of an API server but as a ClusterIP.
func TestAPIServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, own := startAt(t, &rulestest.Kernel{}, "192.0.2.1 fd00:2::1", func(c *proxier.Config) { c.Cluster.NodePorts.CIDRs = prefixes("0.0.0.0/0", "::/0") })
		n.SetAPIServers(ports("203.0.113.5:6443", "10.96.0.1:443"))
		n.run()
		defer func() { n.stop() }()
		n.lists(external(service("kubernetes", "10.96.0.1", "443"), "10.96.0.1"), endpoints("k", "kubernetes", "6443", "203.0.113.5"),
			in("x", balanced(service("thief", "10.96.0.2 fd00::2", "6443"), "203.0.113.5 fd00:5::5")),
			inNamespace("x", endpoints("t", "thief", "1", "10.0.0.2")), inNamespace("x", endpoints("t6", "thief", "1", "fd01::2")),
			nodePorts(service("node", "10.96.0.3", "80", "other:81"), 6443, 6444), endpoints("n", "node", "1", "10.0.0.3"))
		n.expect("10.96.0.1:443", "203.0.113.5:6443")
		n.expect("203.0.113.5:6443", "203.0.113.5:6443")
		n.expectEvents("Service x/thief  FrontendConflict: 203.0.113.5:6443/tcp is not served for x/thief: this node reaches its API server there")
		n.expect("10.96.0.2:6443", "10.0.0.2:1")
		n.expect("[fd00:5::5]:6443", "[fd01::2]:1")
		n.expect("192.0.2.1:6443", "10.0.0.3:1") // a NodePort elsewhere
		if got := n.Snapshot(); !slices.ContainsFunc(got.Ports, func(p proxier.Port) bool {
			return p.Name.Name == "thief" && len(p.Lost) == 1 && p.Lost[0].Why.Text == "by which this node reaches its API server"
		}) {
			t.Errorf("the snapshot does not say what thief does without: %+v", got.Ports)
		}

		// Another one is known, and then the first no more.
		n.SetAPIServers(ports("203.0.113.5:6443", "10.96.0.1:443", "[fd00:5::5]:6443"))
		synctest.Wait()
		n.expect("[fd00:5::5]:6443", "[fd00:5::5]:6443")
		n.expectEvents("Service x/thief  FrontendConflict: [fd00:5::5]:6443/tcp is not served")
		n.SetAPIServers(ports("[fd00:5::5]:6443"))
		synctest.Wait()
		n.expect("203.0.113.5:6443", "10.0.0.2:1")

		// It is on this node: a NodePort of its number would shut it out, too.
		n.SetAPIServers(ports("192.0.2.1:6443"))
		synctest.Wait()
		n.expect("192.0.2.1:6443", "192.0.2.1:6443")
		n.expectEvents("Service default/node  FrontendConflict: NodePort 6443/tcp is not served for default/node: this node reaches its API server there")
		n.SetAPIServers(ports("192.0.2.9:6443"))
		synctest.Wait()
		n.expect("192.0.2.1:6443", "10.0.0.3:1")
		own.set("192.0.2.1 192.0.2.9")
		synctest.Wait()
		n.expect("192.0.2.9:6443", "192.0.2.9:6443")
		n.expect("192.0.2.1:6443", "192.0.2.1:6443")
		n.expect("192.0.2.9:6444", "rejected")
	})
}

// TestAPIServerAtLocalhost: nor does a NodePort get a loopback address where the API server is, such as a node's own
// balancer of API servers: once it is served there, that could not start again.
func TestAPIServerAtLocalhost(t *testing.T) {
	for where, want := range map[string]string{
		"127.0.0.1:30001": "tcp 127.0.0.1:30002 [] 0s, tcp [::1]:30001 [] 0s, udp 127.0.0.1:30001 [] 0s, udp [::1]:30001 [] 0s",
		"[::1]:30001":     "tcp 127.0.0.1:30001 [] 0s, tcp 127.0.0.1:30002 [] 0s, udp 127.0.0.1:30001 [] 0s, udp [::1]:30001 [] 0s",
		"127.0.0.2:30001": "tcp 127.0.0.1:30001 [] 0s, tcp 127.0.0.1:30002 [] 0s, tcp [::1]:30001 [] 0s, udp 127.0.0.1:30001 [] 0s, udp [::1]:30001 [] 0s",
	} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local := loopback{}
				n, _ := startAt(t, &rulestest.Kernel{}, "192.0.2.1 127.0.0.1 ::1", func(c *proxier.Config) {
					c.Cluster.NodePorts.CIDRs, c.LocalPorts = prefixes("127.0.0.0/8", "::1/128"), local
				})
				n.run()
				defer func() { n.stop() }()
				n.lists(nodePorts(service("a", "10.96.0.1 fd00::1", "80", "u:80/UDP"), 30001, 30001), nodePorts(service("b", "10.96.0.2", "80"), 30002))
				n.SetAPIServers(ports(where))
				synctest.Wait()
				if got := local.String(); got != want {
					t.Errorf("served on loopback addresses: %s, want %s", got, want)
				}
				n.SetAPIServers(nil)
				synctest.Wait()
				if got := local.String(); strings.Count(got, ",") != 4 {
					t.Errorf("served on loopback addresses once the API server is elsewhere: %s", got)
				}
			})
		})
	}
}

// TestAPIServerAfterRestart: what an earlier run left at an API server's address is gone before the lists are in, as
// without that they would never be.
func TestAPIServerAfterRestart(t *testing.T) {
	for name, scheduler := range map[string]string{"one endpoint": "10.0.0.2", "two": "10.0.0.2 10.0.0.3"} {
		for _, when := range []string{"before Run", "during Run"} {
			t.Run(name+", known "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					kernel := &rulestest.Kernel{}
					config := func(c *proxier.Config) {
						c.Cluster.NodePorts.CIDRs, c.Kernel = prefixes("0.0.0.0/0", "::/0"), inParts{c.Kernel}
					}
					thief := with(balanced(nodePorts(service("thief", "10.96.0.2", "6443", "sticky:6444"), 0, 6443), "203.0.113.5"), func(s *corev1.Service) {
						s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
					})
					objects := []any{service("kubernetes", "10.96.0.1", "443"), endpoints("k", "kubernetes", "6443", "203.0.113.5"),
						thief, endpoints("t", "thief", "1", scheduler), endpoints("t2", "thief", "sticky:1", scheduler)}
					n, _ := startAt(t, kernel, "192.0.2.1", config)
					n.run()
					n.lists(objects...)
					n.stop()
					if got := n.outcomes("203.0.113.5:6443", 1); !strings.HasPrefix(got, "10.0.0.") {
						t.Fatalf("the earlier run sends the API server's packets to %s", got)
					}
					servers := ports("203.0.113.5:6443", "192.0.2.1:6443", "10.96.0.1:443")
					n, _ = startAt(t, kernel, "192.0.2.1", config)
					if when == "before Run" {
						n.SetAPIServers(servers)
						if err := n.FreeAPIServers(); err != nil {
							t.Fatal(err)
						}
					} else {
						n.run()
						n.SetAPIServers(servers)
						synctest.Wait()
					}
					free := func() {
						t.Helper()
						n.expect("203.0.113.5:6443", "203.0.113.5:6443")
						n.expect("192.0.2.1:6443", "192.0.2.1:6443")
						n.expect("10.96.0.1:443", "203.0.113.5:6443")
					}
					free()
					if when == "before Run" {
						n.run()
					}
					n.lists(objects...)
					free()
					n.stop()
					fresh, _ := startAt(t, &rulestest.Kernel{}, "192.0.2.1", config)
					fresh.SetAPIServers(servers)
					fresh.run()
					fresh.lists(objects...)
					fresh.stop()
					if got, want := text(kernel.State()), text(fresh.kernel.State()); got != want {
						t.Errorf("got\n%s\nwant\n%s", got, want)
					}
				})
			})
		}
	}
}

// inParts is a kernel whose tables are too large to be read as a whole.
type inParts struct{ proxier.Kernel }

func (k inParts) Read(string) (rules.State, error) { return rules.State{}, syscall.ENOMEM }

// TestSpecialAddresses: no Service has an address that means this host, many, or no one.
func TestSpecialAddresses(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "127.8.8.8", "169.254.169.254", "224.0.0.1", "239.1.1.1", "0.0.0.0", "255.255.255.255",
		"::1", "fe80::1", "ff02::1", "ff05::1", "::", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::ffff:10.200.0.1", "0:0:0:0:0:ffff:ac8:1", "::ffff:255.255.255.255"} {
		for _, as := range []string{"external IP", "load balancer"} {
			t.Run(a+" as "+as, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := start(t, &rulestest.Kernel{})
					defer n.stop()
					s := service("web", "10.96.0.1 fd00::1", "80")
					if as == "external IP" {
						external(s, a+" 10.200.0.9")
					} else {
						balanced(s, a+" 10.200.0.9")
					}
					n.lists(s, endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"), endpoints("b", "web", "8080", "fd01::1 fd01::2"))
					n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.2:8080")
					n.expect("10.200.0.9:80", "10.0.0.1:8080 10.0.0.2:8080")
					for f, table := range n.kernel.State().Tables {
						for k := range table.Sets[rules.SetID{Kind: rules.ServiceIPs}] {
							if !slices.Contains([]string{"10.96.0.1", "fd00::1", "10.200.0.9"}, k.Addr.String()) {
								t.Errorf("%s is served", k.Addr)
							}
						}
						if len(table.Sets[rules.SetID{Kind: rules.NodePorts}]) > 0 {
							t.Errorf("family %d has NodePorts", f)
						}
					}
					if len(n.events) != 1 || !strings.Contains(n.events[0], "InvalidService") || !strings.Contains(n.events[0], fmt.Sprintf("%q is a", a)) && !strings.Contains(n.events[0], fmt.Sprintf("%q is the", a)) {
						t.Errorf("events %q", n.events)
					}
				})
			})
		}
	}
}

// TestUnspecifiedClusterIP: a Service whose ClusterIP means any address is not served, and has no frontend at all addresses.
func TestUnspecifiedClusterIP(t *testing.T) {
	for _, a := range []string{"0.0.0.0", "::", "::ffff:0.0.0.0", "0.0.0.0 fd00::2", "10.96.0.2 ::"} {
		t.Run(a, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, &rulestest.Kernel{})
				defer n.stop()
				n.lists(service("web", a, "80"), endpoints("a", "web", "8080", "10.0.0.1"), endpoints("b", "web", "8080", "fd01::1"))
				for f, table := range n.kernel.State().Tables {
					for _, kind := range rules.SetKinds() {
						for k := range table.Sets[rules.SetID{Kind: kind}] {
							if k.Addr.IsValid() && k.Addr.IsUnspecified() || kind == rules.NodePorts {
								t.Errorf("family %d: %+v is in %s", f, k, rules.SetID{Kind: kind}.Name())
							}
						}
					}
				}
				if len(n.events) != 1 || !strings.Contains(n.events[0], "the unspecified address") {
					t.Errorf("events %q", n.events)
				}
			})
		})
	}
}

// TestSpecialEndpoints: what the API refuses in an EndpointSlice is refused from every source.
func TestSpecialEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(service("web", "10.96.0.1 fd00::1", "80"), service("bad", "127.0.0.9 fe80::1", "80"),
			endpoints("a", "web", "8080", "127.0.0.1 10.0.0.1 169.254.169.254 224.0.0.5 0.0.0.0 255.255.255.255 10.0.0.2"),
			endpoints("b", "web", "8080", "::1 fe80::1 ff02::1 fd01::1 ::"))
		n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.2:8080")
		n.expect("[fd00::1]:80", "[fd01::1]:8080 [fd01::1]:8080")
		n.expectEvents("Service default/bad  InvalidService: service default/bad: clusterIP \"127.0.0.9\" is a loopback address: left out",
			"EndpointSlice default/a  InvalidEndpointSlice: endpointslice default/a: endpoint 0: address 127.0.0.1 is a loopback address: left out",
			"EndpointSlice default/b")
	})
}

// TestGhosts: of one address and port the endpoint that is not terminating decides, whatever the order of slices.
func TestGhosts(t *testing.T) {
	local := func(es *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		for i := range es.Endpoints {
			es.Endpoints[i].NodeName = ptr.To("here")
		}
		return es
	}
	ended := func(es *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		for i := range es.Endpoints {
			es.Endpoints[i].Conditions.Serving = ptr.To(false)
		}
		return es
	}
	for _, tt := range []struct {
		name   string
		slices []*discoveryv1.EndpointSlice
		want   string
		local  string // under both policies Local
		flows  string // where flows may stay
	}{
		{"running and ready", []*discoveryv1.EndpointSlice{endpoints("a", "web", "53/UDP", "10.0.0.1t"), local(endpoints("b", "web", "53/UDP", "10.0.0.1"))},
			"10.0.0.1:53", "10.0.0.1:53", "[10.0.0.1:53]"},
		{"running elsewhere", []*discoveryv1.EndpointSlice{local(endpoints("a", "web", "53/UDP", "10.0.0.1t")), endpoints("b", "web", "53/UDP", "10.0.0.1")},
			"10.0.0.1:53", "dropped", "[10.0.0.1:53]"},
		{"running and not ready", []*discoveryv1.EndpointSlice{local(endpoints("a", "web", "53/UDP", "10.0.0.1t")), local(notServing(endpoints("b", "web", "53/UDP", "10.0.0.1-")))},
			"rejected", "rejected", "[]"},
		{"running and not ready, another one terminating", []*discoveryv1.EndpointSlice{local(endpoints("a", "web", "53/UDP", "10.0.0.1t")),
			local(notServing(endpoints("b", "web", "53/UDP", "10.0.0.1-"))), local(endpoints("c", "web", "53/UDP", "10.0.0.2t"))},
			"10.0.0.2:53", "10.0.0.2:53", "[10.0.0.2:53]"},
		{"another port", []*discoveryv1.EndpointSlice{local(endpoints("a", "web", "53/UDP", "10.0.0.1t")), local(notServing(endpoints("b", "web", "54/UDP", "10.0.0.1-")))},
			"10.0.0.1:53", "10.0.0.1:53", "[10.0.0.1:53]"},
		{"none serving", []*discoveryv1.EndpointSlice{ended(endpoints("a", "web", "53/UDP", "10.0.0.1t")), ended(endpoints("b", "web", "53/UDP", "10.0.0.1t"))},
			"rejected", "rejected", "[]"},
	} {
		for _, reverse := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reverse %v", tt.name, reverse), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := start(t, &rulestest.Kernel{})
					defer n.stop()
					n.lists(service("web", "10.96.0.1", "53/UDP"), with(service("local", "10.96.0.2", "53/UDP"), func(s *corev1.Service) {
						s.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
					}))
					list := slices.Clone(tt.slices)
					if reverse {
						slices.Reverse(list)
					}
					for _, es := range list {
						n.UpdateEndpointSlice(es)
						other := es.DeepCopy()
						other.Name, other.Labels[discoveryv1.LabelServiceName] = es.Name+"-local", "local"
						n.UpdateEndpointSlice(other)
					}
					synctest.Wait()
					n.expect("10.96.0.1:53/UDP", tt.want)
					n.expect("10.96.0.2:53/UDP", tt.local)
					n.flows.Lock()
					defer n.flows.Unlock()
					for i := len(n.cleaned) - 1; i >= 0; i-- {
						if f := n.cleaned[i]; f.Frontend.Addr == netip.MustParseAddr("10.96.0.1") {
							if got := fmt.Sprint(f.Endpoints); got != tt.flows {
								t.Errorf("flows may stay at %s, want %s", got, tt.flows)
							}
							break
						}
					}
				})
			})
		}
	}
}

func notServing(es *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	for i := range es.Endpoints {
		es.Endpoints[i].Conditions.Serving = ptr.To(false)
	}
	return es
}

// answers notes what load balancers are told: the endpoints at each healthCheckNodePort.
type answers struct {
	quietHealth
	at map[uint16]int
}

func (a answers) SetService(_, _ string, port uint16, endpoints [2]int) { a.at[port] = endpoints[0] }
func (a answers) DeleteService(string, string)                          { clear(a.at) }

// TestHealthPorts: load balancers are told of endpoints that are not another's ghost, and at no port where this
// node's own API server is, which could not start again.
func TestHealthPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := answers{at: map[uint16]int{}}
		n, _ := startAt(t, &rulestest.Kernel{}, "192.0.2.1", func(c *proxier.Config) { c.Cluster.NodePorts.CIDRs, c.Health = prefixes("0.0.0.0/0", "::/0"), h })
		n.run()
		defer func() { n.stop() }()
		lb := service("lb", "10.96.0.1", "80")
		lb.Spec.Type, lb.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 32000
		lb.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		// Ready and terminating: a Service that publishes addresses that are not ready.
		old := endpoints("old", "lb", "8080", "10.0.0.1 10.0.0.2")
		for i := range old.Endpoints {
			old.Endpoints[i].NodeName, old.Endpoints[i].Conditions.Terminating = ptr.To("here"), ptr.To(true)
		}
		n.lists(lb, old)
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := fmt.Sprint(h.at); got != want {
				t.Errorf("told %s, want %s", got, want)
			}
		}
		expect("map[32000:2]")
		n.UpdateEndpointSlice(notServing(endpoints("new", "lb", "8080", "10.0.0.1-")))
		expect("map[32000:1]")
		n.UpdateEndpointSlice(notServing(endpoints("new", "lb", "8081", "10.0.0.1-"))) // another port of it
		expect("map[32000:2]")
		n.expectEvents()

		n.SetAPIServers(ports("192.0.2.1:32000"))
		expect("map[]")
		n.expectEvents("Service default/lb  FrontendConflict: healthCheckNodePort 32000 is not served: this node reaches its API server there")
		n.UpdateEndpointSlice(notServing(endpoints("new", "lb", "8082", "10.0.0.1-")))
		expect("map[]")
		n.expectEvents() // that is known
		n.SetAPIServers(ports("203.0.113.1:32000"))
		expect("map[32000:2]")
	})
}
