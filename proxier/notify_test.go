// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// Warning implements proxier.Events.
func (n *node) Warning(about corev1.ObjectReference, reason, message string) {
	n.events = append(n.events, fmt.Sprintf("%s %s %s/%s %s %s: %s", about.APIVersion, about.Kind, about.Namespace, about.Name, about.UID, reason, message))
}

// expectEvents checks the events since the last call: one for each text, which it
// contains.
func (n *node) expectEvents(want ...string) {
	n.t.Helper()
	got := n.events
	n.events = nil
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && strings.Contains(got[i], want[i])
	}
	if !ok {
		n.t.Errorf("events %q, want %q", got, want)
	}
}

// loopback implements proxier.LocalPorts.
type loopback map[string]string

func (l loopback) Set(network string, at netip.AddrPort, endpoints []netip.AddrPort, affinity time.Duration) error {
	if at.Port() == 30999 {
		return errors.New("address already in use")
	}
	l[network+" "+at.String()] = fmt.Sprint(endpoints, affinity)
	return nil
}

func (l loopback) Delete(network string, at netip.AddrPort) { delete(l, network+" "+at.String()) }

func (l loopback) String() string {
	var out []string
	for _, at := range slices.Sorted(maps.Keys(l)) {
		out = append(out, at+" "+l[at])
	}
	return strings.Join(out, ", ")
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		n := start(t, kernel)
		defer n.stop()
		n.lists(created(service("web", "10.96.0.1", "80"), 100), endpoints("a", "web", "8080", "10.0.0.1"))
		n.expectEvents()

		bad := service("bad", "10.96.0.2", "80", "other:0")
		bad.UID, bad.Spec.ExternalIPs = "u1", []string{"x"}
		n.UpdateService(bad)
		synctest.Wait()
		n.expectEvents(`v1 Service default/bad u1 InvalidService: service default/bad: port "other" has number 0: left out; ` +
			`service default/bad: externalIP "x" is not an IP address: left out`)

		es := endpoints("b", "web", "8080", "10.0.0.1")
		es.UID, es.Endpoints[0].Addresses = "u2", []string{"fd00::1"}
		n.UpdateEndpointSlice(es)
		synctest.Wait()
		n.expectEvents("discovery.k8s.io/v1 EndpointSlice default/b u2 InvalidEndpointSlice: endpointslice default/b: endpoint 0: address fd00::1 is not")

		n.UpdateService(created(service("late", "10.96.0.1", "80"), 200))
		synctest.Wait()
		n.expectEvents("Service default/late  FrontendConflict: ")
		n.UpdateService(created(service("late", "10.96.0.3", "80"), 200))
		synctest.Wait()
		n.expectEvents()

		kernel.Refuse(func(op rules.Op) bool { return op.Kind == rules.AddChain && op.Chain.Name == "service/default/refused" })
		n.UpdateService(service("refused", "10.96.0.4", "80"))
		n.UpdateEndpointSlice(endpoints("r", "refused", "8080", "10.0.0.1 10.0.0.2"))
		synctest.Wait()
		n.expectEvents("Service default/refused  KernelRefused: default/refused (ip) is not programmed: ")
	})
}

// TestEventsBeforeSynced: what was found at objects is told by the time that they are programmed.
func TestEventsBeforeSynced(t *testing.T) {
	n := &node{t: t}
	p := proxier.New(proxier.Config{Cluster: cluster.Config{NodeName: "here"}, Kernel: &rulestest.Kernel{}, Events: n})
	p.ReplaceNodes(nil)
	p.ReplaceServiceCIDRs(nil)
	bad := service("bad", "10.96.0.2", "80")
	bad.Spec.ExternalIPs = []string{"x"}
	p.ReplaceServices([]*corev1.Service{bad})
	p.ReplaceEndpointSlices(nil)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	n.expectEvents("Service default/bad  InvalidService: ")
}

func TestLocalPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		nodePort := func(name, ip string, ports ...int32) *corev1.Service {
			s := service(name, ip, "80", "u:80/UDP", "s:80/SCTP")
			for i, p := range ports {
				s.Spec.Ports[i].NodePort = p
			}
			s.Spec.Type = corev1.ServiceTypeNodePort
			return s
		}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := n.ports.String(); got != want {
				t.Errorf("served on loopback addresses: %s, want %s", got, want)
			}
		}
		a := nodePort("a", "10.96.0.1 fd00::1", 30001, 30001, 30001)
		n.lists(a, endpoints("a", "a", "8080", "10.0.0.1 10.0.0.2"), endpoints("a6", "a", "8080", "fd00:1::1"))
		expect("tcp 127.0.0.1:30001 [10.0.0.2:8080 10.0.0.1:8080] 0s, tcp [::1]:30001 [[fd00:1::1]:8080] 0s, " +
			"udp 127.0.0.1:30001 [] 0s, udp [::1]:30001 [] 0s")

		// A port goes from one Service to another at once, whichever comes first by name.
		n.UpdateService(nodePort("a", "10.96.0.1", 30002))
		n.UpdateService(nodePort("0", "10.96.0.2", 30001))
		n.UpdateService(nodePort("z", "10.96.0.3", 0, 30001))
		expect("tcp 127.0.0.1:30001 [] 0s, tcp 127.0.0.1:30002 [10.0.0.2:8080 10.0.0.1:8080] 0s, udp 127.0.0.1:30001 [] 0s")

		// Only this node's endpoints, and one for each client.
		local := nodePort("a", "10.96.0.1", 30002)
		local.Spec.ExternalTrafficPolicy, local.Spec.SessionAffinity = corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceAffinityClientIP
		n.UpdateService(local)
		n.DeleteService("default", "0")
		n.DeleteService("default", "z")
		expect("tcp 127.0.0.1:30002 [] 3h0m0s")
		n.events = nil

		n.UpdateService(nodePort("a", "10.96.0.1", 30999, 30003))
		expect("udp 127.0.0.1:30003 [] 0s")
		n.expectEvents("Service default/a  PortInUse: NodePort is not served on a loopback address: address already in use")
		n.DeleteService("default", "a")
		expect("")
	})
}

// metric returns the values of a metric of kube-proxy's; of histograms, how often they have been
// observed.
func (n *node) metric(name string) string {
	n.t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		if f.GetName() != "kubeproxy_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if h := m.GetHistogram(); h != nil {
				v = float64(h.GetSampleCount())
			}
			out = append(out, fmt.Sprint(v))
		}
	}
	return strings.Join(out, " ")
}

// TestKubeProxyMetrics: the metrics of kube-proxy's nftables mode, by their names.
func TestKubeProxyMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		n := start(t, kernel)
		defer n.stop()
		web := service("web", "10.96.0.1 fd00::1", "80")
		web.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
		n.lists(web, endpoints("a", "web", "8080", "10.0.0.1"))
		expect := func(name, want string) {
			t.Helper()
			synctest.Wait()
			if got := n.metric(name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		now := func() string { return fmt.Sprintf("%v %[1]v", float64(time.Now().UnixNano())/1e9) }
		expect("sync_full_proxy_rules_duration_seconds", "1 1")
		expect("sync_partial_proxy_rules_duration_seconds", "")
		expect("sync_proxy_rules_last_timestamp_seconds", now())
		expect("sync_proxy_rules_service_changes_total", "2") // one in each family
		expect("sync_proxy_rules_endpoint_changes_total", "1")
		expect("sync_proxy_rules_no_local_endpoints_total", "0 1 0 0") // internal, IPv4: IPv6 has none anywhere
		expect("network_programming_duration_seconds", "0 0")

		// A change that was triggered 3 s ago, and one from before the start.
		time.Sleep(time.Minute)
		es := endpoints("b", "web", "8080", "10.0.0.2")
		es.Endpoints[0].NodeName = ptr.To("here")
		es.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Add(-3 * time.Second).Format(time.RFC3339Nano)}
		n.UpdateEndpointSlice(es)
		expect("network_programming_duration_seconds", "1 0")
		expect("sync_partial_proxy_rules_duration_seconds", "1 1")
		expect("sync_proxy_rules_duration_seconds", "2 2")
		expect("sync_proxy_rules_last_timestamp_seconds", now())
		expect("sync_proxy_rules_last_queued_timestamp_seconds", now())
		expect("sync_proxy_rules_no_local_endpoints_total", "0 0 0 0")
		es = es.DeepCopy()
		es.Endpoints[0].NodeName = ptr.To("elsewhere")
		es.Annotations[corev1.EndpointsLastChangeTriggerTime] = time.Now().Add(-time.Hour).Format(time.RFC3339Nano)
		n.UpdateEndpointSlice(es)
		expect("network_programming_duration_seconds", "1 0")
		expect("sync_proxy_rules_no_local_endpoints_total", "0 1 0 0")
		expect("sync_proxy_rules_endpoint_changes_pending", "0")

		// The clock of what triggered a change may be ahead.
		es = es.DeepCopy()
		es.Endpoints[0].NodeName = nil
		es.Annotations[corev1.EndpointsLastChangeTriggerTime] = time.Now().Add(time.Second).Format(time.RFC3339Nano)
		n.UpdateEndpointSlice(es)
		expect("network_programming_duration_seconds", "1 0")
		es = es.DeepCopy()
		es.Endpoints[0].NodeName = ptr.To("elsewhere")
		es.Annotations[corev1.EndpointsLastChangeTriggerTime] = time.Now().Format(time.RFC3339Nano)
		n.UpdateEndpointSlice(es)
		expect("network_programming_duration_seconds", "2 0")

		// A change that changes no rule is a sync, too.
		time.Sleep(time.Minute)
		n.UpdateService(service("headless", "None", "80"))
		expect("sync_proxy_rules_last_queued_timestamp_seconds", now())
		expect("sync_proxy_rules_last_timestamp_seconds", now())

		// What cannot be programmed at all stays pending and is counted as a failure.
		kernel.FailApplies(syscall.ENOMEM)
		es = es.DeepCopy()
		es.Endpoints[0].NodeName = ptr.To("here")
		n.UpdateEndpointSlice(es)
		expect("sync_proxy_rules_nftables_sync_failures_total", "1 1")
		expect("sync_proxy_rules_duration_seconds", "6 6") // failures, too
		expect("sync_partial_proxy_rules_duration_seconds", "5 5")
		expect("sync_proxy_rules_endpoint_changes_pending", "1")
		n.UpdateService(service("other", "10.96.0.2", "80"))
		expect("sync_proxy_rules_service_changes_total", "6")
		kernel.FailApplies(nil)
		time.Sleep(10 * time.Minute)
		expect("sync_proxy_rules_endpoint_changes_pending", "0")
		n.DeleteService("default", "web")
		expect("sync_proxy_rules_no_local_endpoints_total", "0 0 0 0")
	})
}

// TestProgrammingLatency: a time in an annotation counts once, if the EndpointSlice has changed, and
// not if it is gone before it was programmed.
func TestProgrammingLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		n := start(t, kernel)
		defer n.stop()
		web, other := service("web", "10.96.0.1", "80"), service("other", "10.96.0.2", "80")
		triggered := func(name, service, addr string) *discoveryv1.EndpointSlice {
			es := endpoints(name, service, "8080", addr)
			es.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Format(time.RFC3339Nano)}
			return es
		}
		expect := func(what, want string) {
			t.Helper()
			synctest.Wait()
			if got := n.metric("network_programming_duration_seconds"); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		time.Sleep(time.Minute)
		a, b := triggered("a", "web", "10.0.0.1"), triggered("b", "web", "10.0.0.2")
		n.lists(web, other, a, b)
		expect("the first list", "2 0")
		time.Sleep(time.Minute)
		n.lists(web, other, a, b)
		n.UpdateEndpointSlice(a)
		n.UpdateService(service("web", "10.96.0.1", "81")) // something is programmed
		expect("the same once more", "2 0")

		kernel.FailApplies(syscall.ENOMEM) // what comes stays pending
		n.UpdateEndpointSlice(triggered("a", "web", "10.0.0.3"))
		n.UpdateEndpointSlice(triggered("c", "other", "10.0.0.4"))
		n.DeleteEndpointSlice("default", "b")
		n.DeleteEndpointSlice("default", "none")
		synctest.Wait()
		kernel.FailApplies(nil)
		time.Sleep(10 * time.Minute)
		expect("a slice of web's gone meanwhile", "3 0")
	})
}

// TestFlowMetrics counts the clean-up of connection tracking for the families that it was about.
func TestFlowMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.deleted = conntrack.Deleted{V4: 2, V6: 3}
		n.lists(service("dns", "10.96.0.1 fd00::1", "53/UDP"), service("six", "fd00::2", "53/UDP"))
		expect := func(looks, deleted string) {
			t.Helper()
			synctest.Wait()
			if got := n.metric("conntrack_reconciler_sync_duration_seconds"); got != looks {
				t.Errorf("looks: %s, want %s", got, looks)
			}
			if got := n.metric("conntrack_reconciler_deleted_entries_total"); got != deleted {
				t.Errorf("deleted: %s, want %s", got, deleted)
			}
		}
		expect("1 1", "2 3")
		n.deleted = conntrack.Deleted{V6: 1}
		n.UpdateEndpointSlice(endpoints("s", "six", "53/UDP", "fd01::1"))
		expect("1 2", "2 4")
	})
}

// localReady notes the endpoints on this node that health was told of.
type localReady struct {
	quietHealth
	told [2]int
}

func (l *localReady) SetService(_, _ string, _ uint16, endpoints [2]int) { l.told = endpoints }

// listening notes where something is to listen.
type listening struct {
	quietHealth
	addrs []netip.Addr
	ports []netip.AddrPort
}

func (l *listening) SetAddresses(addrs []netip.Addr) { l.addrs = addrs }

func (l *listening) Set(_ string, at netip.AddrPort, _ []netip.AddrPort, _ time.Duration) error {
	l.ports = append(l.ports, at)
	return nil
}

func (l *listening) Delete(string, netip.AddrPort) {}

// TestMissingFamily: nothing listens at addresses of a family that the node does not have.
func TestMissingFamily(t *testing.T) {
	for _, missing := range rules.Families {
		for name, where := range map[string]cluster.NodePortAddresses{"all": {CIDRs: prefixes("0.0.0.0/0", "::/0")}, "primary": {Primary: true, CIDRs: prefixes("127.0.0.0/8", "::1/128")}} {
			synctest.Test(t, func(t *testing.T) {
				l := &listening{}
				c := proxier.Config{Cluster: cluster.Config{NodePorts: where, NodeIPs: []netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00:18::2")}}, Kernel: &rulestest.Kernel{}, Health: l, LocalPorts: l}
				c.Missing[missing] = true
				p, stop := runWith(t, c)
				defer stop()
				s := service("np", "10.96.0.1 fd00::1", "80")
				s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30000
				p.ReplaceServices([]*corev1.Service{s})
				p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("a", "np", "80", "10.0.0.1"), endpoints("b", "np", "80", "fd01::1")})
				synctest.Wait()
				if len(l.addrs) == 0 || len(l.ports) != 1 {
					t.Errorf("%s: told of addresses %v, ports %v", name, l.addrs, l.ports)
				}
				for _, a := range l.ports {
					l.addrs = append(l.addrs, a.Addr())
				}
				if slices.ContainsFunc(l.addrs, func(a netip.Addr) bool { return rules.FamilyOf(a) == missing }) {
					t.Errorf("%s: without %v something is to listen at %v", name, missing, l.addrs)
				}
			})
		}
	}
}

// quietHealth implements proxier.Health for nobody.
type quietHealth struct{}

func (quietHealth) Began()                                    {}
func (quietHealth) Queued()                                   {}
func (quietHealth) Updated()                                  {}
func (quietHealth) SetNodeEligible(bool)                      {}
func (quietHealth) SetAddresses([]netip.Addr)                 {}
func (quietHealth) SetService(string, string, uint16, [2]int) {}
func (quietHealth) DeleteService(string, string)              {}

// TestHealthOfOtherPorts: load balancers' answers count the endpoints of all ports of all slices, as
// kube-proxy's do, also of those that the Service does not have.
func TestHealthOfOtherPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &localReady{}
		p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Health: h})
		defer stop()
		lb := service("lb", "10.96.0.1", "http:80")
		lb.Spec.Type, lb.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 30000
		lb.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		p.ReplaceServices([]*corev1.Service{lb})
		p.ReplaceEndpointSlices(nil)
		here := func(port, addrs string) *discoveryv1.EndpointSlice {
			es := endpoints("other", "lb", port, addrs)
			for i := range es.Endpoints {
				es.Endpoints[i].NodeName = ptr.To("here")
			}
			return es
		}
		portless := here("http:80", "10.0.0.9")
		portless.Name, portless.Ports = "portless", nil
		for _, step := range []struct {
			es   *discoveryv1.EndpointSlice
			want int
		}{{here("metrics:9090", "10.0.0.1"), 1}, {here("metrics:9090", "10.0.0.1 10.0.0.2"), 2}, {portless, 2}, {here("http:80", "10.0.0.1"), 1}, {here("metrics:9090", ""), 0}} {
			p.UpdateEndpointSlice(step.es)
			synctest.Wait()
			if h.told[0] != step.want {
				t.Errorf("after %v: told of %d endpoints, want %d", step.es.Ports, h.told[0], step.want)
			}
		}
	})
}

// sockets is Health and LocalPorts of one host: a port that somebody listens on is nobody else's.
type sockets struct {
	quietHealth
	t     *testing.T
	owner map[string]string // by "network address:port"
}

func (s sockets) listen(at, owner string) {
	if other := s.owner[at]; other != "" && other != owner {
		s.t.Errorf("%s wants to listen at %s before %s has stopped", owner, at, other)
	}
	s.owner[at] = owner
}

func (s sockets) SetService(_, name string, port uint16, _ [2]int) {
	owner := "health of " + name
	for at, other := range s.owner {
		if other == owner && at != fmt.Sprint("tcp ", port) {
			delete(s.owner, at)
		}
	}
	s.listen(fmt.Sprint("tcp ", port), owner)
}

func (s sockets) DeleteService(_, name string) {
	for at, other := range s.owner {
		if other == "health of "+name {
			delete(s.owner, at)
		}
	}
}

func (s sockets) Set(network string, at netip.AddrPort, _ []netip.AddrPort, _ time.Duration) error {
	s.listen(fmt.Sprint(network, " ", at.Port()), "NodePort")
	return nil
}

func (s sockets) Delete(network string, at netip.AddrPort) {
	delete(s.owner, fmt.Sprint(network, " ", at.Port()))
}

func (s sockets) String() string {
	var out []string
	for _, at := range slices.Sorted(maps.Keys(s.owner)) {
		out = append(out, at+": "+s.owner[at])
	}
	return strings.Join(out, ", ")
}

// TestPortsPass: a port that one Service gives up and another one takes is closed first, whichever comes
// first by name and whatever both use it for.
func TestPortsPass(t *testing.T) {
	asks := func(name string, port int32) *corev1.Service {
		s := service(name, map[string]string{"a": "10.96.0.1", "b": "10.96.0.2", "c": "10.96.0.3"}[name], "80")
		s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, port
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		return s
	}
	nodePort := func(name string, port int32) *corev1.Service {
		s := asks(name, 0)
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, port
		return s
	}
	for _, tt := range []struct {
		name          string
		before, after []*corev1.Service
		want          string
	}{
		{"to one that sorts earlier", []*corev1.Service{asks("b", 30001)}, []*corev1.Service{asks("b", 30002), asks("a", 30001)},
			"tcp 30001: health of a, tcp 30002: health of b"},
		{"to one that sorts later", []*corev1.Service{asks("a", 30001)}, []*corev1.Service{asks("a", 30002), asks("b", 30001)},
			"tcp 30001: health of b, tcp 30002: health of a"},
		{"swapped", []*corev1.Service{asks("a", 30001), asks("b", 30002)}, []*corev1.Service{asks("a", 30002), asks("b", 30001)},
			"tcp 30001: health of b, tcp 30002: health of a"},
		{"in a circle", []*corev1.Service{asks("a", 30001), asks("b", 30002), asks("c", 30003)}, []*corev1.Service{asks("a", 30002), asks("b", 30003), asks("c", 30001)},
			"tcp 30001: health of c, tcp 30002: health of a, tcp 30003: health of b"},
		{"its Service is no load balancer any more", []*corev1.Service{asks("b", 30001)}, []*corev1.Service{service("b", "10.96.0.2", "80"), asks("a", 30001)},
			"tcp 30001: health of a"},
		{"from a NodePort", []*corev1.Service{nodePort("b", 30001)}, []*corev1.Service{nodePort("b", 30002), asks("a", 30001)},
			"tcp 30001: health of a, tcp 30002: NodePort"},
		{"to a NodePort", []*corev1.Service{asks("b", 30001)}, []*corev1.Service{asks("b", 30002), nodePort("a", 30001)},
			"tcp 30001: NodePort, tcp 30002: health of b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := sockets{t: t, owner: map[string]string{}}
				p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Health: s, LocalPorts: s})
				defer stop()
				p.ReplaceServices(tt.before)
				p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("e", "a", "8080", "10.0.0.1"), endpoints("f", "b", "8080", "10.0.0.2")})
				synctest.Wait()
				p.ReplaceServices(tt.after) // at once
				synctest.Wait()
				if got := s.String(); got != tt.want {
					t.Errorf("listening: %s, want %s", got, tt.want)
				}
			})
		})
	}
}
