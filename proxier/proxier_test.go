// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// node is a running proxier on a kernel in memory, inside a synctest bubble.
type node struct {
	*proxier.Proxier
	t       *testing.T
	kernel  *rulestest.Kernel
	changed chan struct{}
	log     strings.Builder
	flows   sync.Mutex // of cleaned
	cleaned []conntrack.Target
	deleted conntrack.Deleted // what Clean says
	events  []string
	ports   loopback

	registry *prometheus.Registry
	stop     func()
}

// start runs a proxier in the bubble of the test.
func start(t *testing.T, kernel *rulestest.Kernel) *node {
	return startWith(t, kernel, func(*proxier.Config) {})
}

// startWith does so with another configuration.
func startWith(t *testing.T, kernel *rulestest.Kernel, change func(*proxier.Config)) *node {
	n := &node{t: t, kernel: kernel, changed: make(chan struct{}, 1), ports: loopback{}, registry: prometheus.NewRegistry()}
	metrics := proxier.NewMetrics()
	n.registry.MustRegister(metrics)
	config := proxier.Config{Cluster: cluster.Config{NodeName: "here"}, Kernel: kernel, Logger: n.logger(), Conntrack: n, Events: n, LocalPorts: n.ports, Metrics: metrics, Foreign: proxier.Foreign{Changed: n.changed}}
	change(&config)
	n.Proxier = proxier.New(config)
	n.ReplaceNodes(nil)
	n.ReplaceServiceCIDRs(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return n
}

func (n *node) logger() logr.Logger {
	return funcr.New(func(_, args string) { n.log.WriteString(args + "\n") }, funcr.Options{})
}

func (*node) CountOpen(context.Context, map[rules.Backend]uint32) (time.Duration, error) {
	return 0, nil
}

// Clean implements proxier.Conntrack.
func (n *node) Clean(_ context.Context, targets []conntrack.Target, _ func() []conntrack.Target) (conntrack.Deleted, error) {
	n.flows.Lock()
	defer n.flows.Unlock()
	n.cleaned = append(n.cleaned, targets...)
	return n.deleted, nil
}

// lists gives the first full lists.
func (n *node) lists(objects ...any) {
	var services []*corev1.Service
	var slices []*discoveryv1.EndpointSlice
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			services = append(services, o)
		case *discoveryv1.EndpointSlice:
			slices = append(slices, o)
		}
	}
	n.ReplaceServices(services)
	n.ReplaceEndpointSlices(slices)
	synctest.Wait()
}

// outcomes sends packets from a pod to a frontend such as 10.96.0.1:80/TCP, and returns what becomes of them, sorted.
func (n *node) outcomes(to string, packets int) string {
	n.t.Helper()
	addr, proto, _ := strings.Cut(to, "/")
	dst := netip.MustParseAddrPort(addr)
	p := map[string]rules.Protocol{"": rules.TCP, "UDP": rules.UDP, "SCTP": rules.SCTP}[proto]
	src := netip.MustParseAddrPort("10.244.1.10:1000")
	if dst.Addr().Is6() {
		src = netip.MustParseAddrPort("[fd00:10:244:1::10]:1000")
	}
	tr := tracer.Tracer{State: n.kernel.State()}
	var out []string
	for range packets {
		became, err := tr.Trace(tracer.Packet{Protocol: p, Src: src, Dst: dst}, false)
		if err != nil {
			n.t.Fatal(err)
		}
		switch {
		case became.Rejected:
			out = append(out, "rejected")
		case became.Dropped:
			out = append(out, "dropped")
		default:
			out = append(out, became.To.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (n *node) expect(to, want string) {
	n.t.Helper()
	if got := n.outcomes(to, len(strings.Fields(want))); got != want {
		n.t.Errorf("to %s: %s, want %s", to, got, want)
	}
}

func text(s rules.State) string {
	var b strings.Builder
	if err := s.WriteText(&b); err != nil {
		panic(err)
	}
	return b.String()
}

func TestNothingIsWrittenBeforeBothLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80")})
		synctest.Wait()
		n.UpdateEndpointSlice(endpoints("web-1", "web", "8080", "10.0.0.1"))
		synctest.Wait()
		if tx := n.kernel.Applied(); len(tx) != 0 {
			t.Errorf("%d transactions before the list of EndpointSlices, want none", len(tx))
		}
		n.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("web-1", "web", "8080", "10.0.0.1")})
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.0.0.1:8080")
	})
}

// TestServices lists objects and says where connections go.
func TestServices(t *testing.T) {
	for _, tt := range []struct {
		name    string
		objects []any
		want    map[string]string
		log     string // part of what is logged
	}{
		{name: "round robin", objects: []any{service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080 10.0.0.1:8080 10.0.0.2:8080 10.0.0.2:8080"}},
		{name: "several slices, an endpoint in both", objects: []any{service("web", "10.96.0.1", "80"),
			endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"), endpoints("b", "web", "8080", "10.0.0.2 10.0.0.3")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080"}},
		{name: "slices with different ports", objects: []any{service("web", "10.96.0.1", "80"),
			endpoints("a", "web", "8080", "10.0.0.1"), endpoints("b", "web", "9090", "10.0.0.1")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080 10.0.0.1:9090"}},
		{name: "named ports", objects: []any{service("web", "10.96.0.1", "http:80", "admin:81"),
			endpoints("a", "web", "http:8080", "10.0.0.1"), endpoints("b", "web", "admin:8081", "10.0.0.2"), endpoints("c", "web", "other:1", "10.0.0.3")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080 10.0.0.1:8080", "10.96.0.1:81": "10.0.0.2:8081", "10.96.0.1:82": "rejected"}},
		{name: "TCP and UDP on one number", objects: []any{service("dns", "10.96.0.1", "tcp:53", "udp:53/UDP"),
			endpoints("a", "dns", "tcp:53", "10.0.0.1"), endpoints("b", "dns", "udp:5353/UDP", "10.0.0.2")},
			want: map[string]string{"10.96.0.1:53": "10.0.0.1:53", "10.96.0.1:53/UDP": "10.0.0.2:5353", "10.96.0.1:53/SCTP": "rejected"}},
		{name: "one name, another protocol", objects: []any{service("dns", "10.96.0.1", "53/UDP"), endpoints("a", "dns", "53/TCP", "10.0.0.1")},
			want: map[string]string{"10.96.0.1:53/UDP": "rejected"}},
		{name: "SCTP", objects: []any{service("sig", "10.96.0.1", "36412/SCTP"), endpoints("a", "sig", "36412/SCTP", "10.0.0.1 10.0.0.2")},
			want: map[string]string{"10.96.0.1:36412/SCTP": "10.0.0.1:36412 10.0.0.2:36412"}},
		{name: "dual stack", objects: []any{service("web", "10.96.0.1 fd00::1", "80"),
			endpoints("a", "web", "8080", "10.0.0.1"), endpoints("b", "web", "8080", "fd01::1 fd01::2")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080", "[fd00::1]:80": "[fd01::1]:8080 [fd01::2]:8080"}},
		{name: "not ready, terminating", objects: []any{service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1- 10.0.0.2t 10.0.0.3")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.3:8080 10.0.0.3:8080"}},
		{name: "only terminating", objects: []any{service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1- 10.0.0.2t")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.2:8080 10.0.0.2:8080"}},
		{name: "none", objects: []any{service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1-")},
			want: map[string]string{"10.96.0.1:80": "rejected"}},
		{name: "headless and ExternalName", objects: []any{headless("none"), externalName("10.96.0.9"), endpoints("a", "none", "80", "10.0.0.1")},
			want: map[string]string{"10.96.0.9:80": "10.96.0.9:80"}},
		{name: "an endpoint of the wrong family", objects: []any{service("web", "10.96.0.1", "80"), wrongFamily(), endpoints("b", "web", "8080", "10.0.0.1")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080"}, log: `endpointslice default/wrong: endpoint 0: address fd01::1 is not of the slice's address type`},
		{name: "FQDN", objects: []any{service("web", "10.96.0.1", "80"), fqdn()},
			want: map[string]string{"10.96.0.1:80": "rejected"}},
		{name: "no service label", objects: []any{service("web", "10.96.0.1", "80"), unlabelled()},
			want: map[string]string{"10.96.0.1:80": "rejected"}},
		{name: "addresses with zeros, and IPv4 addresses as IPv6", objects: []any{service("web", "010.096.0.01", "80"), service("mapped", "::ffff:10.96.0.2", "80"),
			endpoints("a", "web", "8080", "010.0.0.01"), endpoints("b", "mapped", "8080", "10.0.0.2")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080", "10.96.0.2:80": "10.0.0.2:8080"}},
		{name: "bad parts of a service", objects: []any{service("web", "10.96.0.1 nonsense", "80", "zero:0", "icmp:1/ICMP", "81"), endpoints("a", "web", "8080", "10.0.0.1")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080", "10.96.0.1:81": "rejected"}, log: `service default/web: clusterIP "nonsense" is not an IP address`},
		{name: "the older of two has the address", objects: []any{created(service("new", "10.96.0.1", "80"), 200), created(service("old", "10.96.0.1", "80"), 100),
			endpoints("a", "new", "8080", "10.0.0.1"), endpoints("b", "old", "8080", "10.0.0.2")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.2:8080"}, log: `"servicePort"="default/new (ip)"`},
		{name: "of the same age, the first by name", objects: []any{service("b", "10.96.0.1", "80"), service("a", "10.96.0.1", "80"),
			endpoints("x", "a", "8080", "10.0.0.1"), endpoints("y", "b", "8080", "10.0.0.2")},
			want: map[string]string{"10.96.0.1:80": "10.0.0.1:8080"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, &rulestest.Kernel{})
				defer n.stop()
				n.lists(tt.objects...)
				for to, want := range tt.want {
					n.expect(to, want)
				}
				if !strings.Contains(strings.ReplaceAll(n.log.String(), `\"`, `"`), tt.log) {
					t.Errorf("log:\n%s\nwant a line with %s", n.log.String(), tt.log)
				}
			})
		})
	}
}

func headless(name string) *corev1.Service { return service(name, corev1.ClusterIPNone, "80") }

func externalName(ip string) *corev1.Service {
	s := service("external", ip, "80")
	s.Spec.Type = corev1.ServiceTypeExternalName
	return s
}

func wrongFamily() *discoveryv1.EndpointSlice {
	es := endpoints("wrong", "web", "8080", "fd01::1")
	es.AddressType = discoveryv1.AddressTypeIPv4
	return es
}

func fqdn() *discoveryv1.EndpointSlice {
	es := endpoints("fqdn", "web", "8080", "example.com")
	es.AddressType = discoveryv1.AddressTypeFQDN
	return es
}

func unlabelled() *discoveryv1.EndpointSlice {
	es := endpoints("x", "web", "8080", "10.0.0.1")
	es.Labels = nil
	return es
}

// TestChanges makes changes one after the other.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), service("other", "10.96.0.2", "80"), endpoints("o", "other", "80", "10.0.1.1 10.0.1.2"))
		n.expect("10.96.0.1:80", "rejected")
		for _, step := range []struct {
			name   string
			change func()
			to     string
			want   string
		}{
			{"an endpoint", func() { n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1")) }, "10.96.0.1:80", "10.0.0.1:8080"},
			{"another", func() { n.UpdateEndpointSlice(endpoints("b", "web", "8080", "10.0.0.2")) }, "10.96.0.1:80", "10.0.0.1:8080 10.0.0.2:8080"},
			{"a slice gone", func() { n.DeleteEndpointSlice("default", "a") }, "10.96.0.1:80", "10.0.0.2:8080 10.0.0.2:8080"},
			{"a slice passes to another service", func() { n.UpdateEndpointSlice(endpoints("b", "other", "80", "10.0.0.2")) }, "10.96.0.1:80", "rejected"},
			{"and back", func() { n.UpdateEndpointSlice(endpoints("b", "web", "8080", "10.0.0.2")) }, "10.96.0.1:80", "10.0.0.2:8080"},
			{"the port's number", func() { n.UpdateService(service("web", "10.96.0.1", "81")) }, "10.96.0.1:81", "10.0.0.2:8080"},
			{"the address", func() { n.UpdateService(service("web", "10.96.0.3", "81")) }, "10.96.0.3:81", "10.0.0.2:8080"},
			{"headless", func() { n.UpdateService(headless("web")) }, "10.96.0.3:81", "10.96.0.3:81"},
			{"not headless", func() { n.UpdateService(service("web", "10.96.0.3", "80")) }, "10.96.0.3:80", "10.0.0.2:8080"},
			{"gone", func() { n.DeleteService("default", "web") }, "10.96.0.3:80", "10.96.0.3:80"},
			{"lists again", func() { n.ReplaceServices([]*corev1.Service{service("web", "10.96.0.4", "80")}) }, "10.96.0.4:80", "10.0.0.2:8080"},
			{"of which one is gone", func() { n.ReplaceEndpointSlices(nil) }, "10.96.0.4:80", "rejected"},
		} {
			before := n.kernel.State().Tables[0]
			n.kernel.Applied()
			step.change()
			synctest.Wait()
			n.expect(step.to, step.want)
			if tx := n.kernel.Applied(); len(tx) != 1 {
				t.Errorf("%s: %d transactions, want 1", step.name, len(tx))
			}
			if step.name != "lists again" && step.name != "of which one is gone" && !strings.Contains(step.name, "passes") && step.name != "and back" {
				after := n.kernel.State().Tables[0]
				if !before.Chains["service/default/other"].Equal(after.Chains["service/default/other"]) {
					t.Errorf("%s: it changed another service", step.name)
				}
			}
		}
		n.UpdateService(service("web", "10.96.0.4", "80"))
		synctest.Wait()
		if tx := n.kernel.Applied(); len(tx) != 0 {
			t.Errorf("an update that changes nothing: %d transactions", len(tx))
		}
	})
}

// TestConflictPassesOn takes the winner away.
func TestConflictPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(created(service("a", "10.96.0.1", "80"), 100), endpoints("a", "a", "1", "10.0.0.1"),
			created(service("b", "10.96.0.1", "80"), 200), endpoints("b", "b", "2", "10.0.0.2"),
			created(service("c", "10.96.0.1", "80"), 300), endpoints("c", "c", "3", "10.0.0.3"))
		n.expect("10.96.0.1:80", "10.0.0.1:1")
		n.DeleteService("default", "a")
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.0.0.2:2")
		n.UpdateService(created(service("b", "10.96.0.9", "80"), 200))
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.0.0.3:3")
		n.expect("10.96.0.9:80", "10.0.0.2:2")
		n.UpdateService(created(service("z", "10.96.0.1", "80"), 50))
		synctest.Wait()
		n.expect("10.96.0.1:80", "rejected")
		n.DeleteService("default", "c")
		n.DeleteService("default", "z")
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.96.0.1:80")
	})
}

// TestRestart starts a second proxier on the first one's tables.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		objects := []any{service("web", "10.96.0.1 fd00::1", "80"), endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"),
			service("gone", "10.96.0.2", "80"), endpoints("g", "gone", "8080", "10.0.0.3 10.0.0.4")}
		n := start(t, kernel)
		n.lists(objects...)
		n.stop()
		before := text(kernel.State())
		kernel.Applied()

		n = start(t, kernel)
		n.lists(objects...)
		n.stop()
		if tx := kernel.Applied(); len(tx) != 0 {
			t.Errorf("a restart with nothing changed wrote %+v", tx[0].Ops())
		}
		if after := text(kernel.State()); after != before {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}

		n = start(t, kernel)
		n.lists(objects[:2]...)
		n.stop()
		n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.2:8080")
		n.expect("10.96.0.2:80", "10.96.0.2:80")
		for _, op := range kernel.Applied()[0].Ops() {
			if strings.Contains(op.Chain.Name, "web") {
				t.Errorf("the unchanged service was written: %+v", op)
			}
		}
	})
}

// TestRefused lets the kernel refuse one service's objects: at first, on a
// change, and no more in the end.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		bad := func(op rules.Op) bool { return op.Kind == rules.AddChain && op.Chain.Name == "service/default/bad" }
		kernel.Refuse(bad)
		n := start(t, kernel)
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"),
			service("bad", "10.96.0.2", "80"), endpoints("b", "bad", "8080", "10.0.0.3 10.0.0.4"))
		n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.2:8080")
		n.expect("10.96.0.2:80", "10.96.0.2:80")
		if log := n.log.String(); !strings.Contains(log, "chain service/default/bad") || !strings.Contains(log, "default/bad (ip)") || !strings.Contains(log, "invalid argument") {
			t.Errorf("the log names not the object, the service port and the errno:\n%s", log)
		}
		// The others go on.
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2 10.0.0.5"))
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.2:8080 10.0.0.5:8080")
		kernel.Refuse(nil)
		time.Sleep(10 * time.Minute) // of the bubble's clock: the next try comes by itself
		synctest.Wait()
		n.expect("10.96.0.2:80", "10.0.0.3:8080 10.0.0.4:8080")
	})
}

// TestRefusedChange keeps what a service had when its change is refused, and
// retries with growing intervals.
func TestRefusedChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		n := start(t, kernel)
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"), service("bad", "10.96.0.2", "80"), endpoints("b", "bad", "80", "10.0.0.3 10.0.0.4"))
		kernel.Refuse(func(op rules.Op) bool { return op.Kind == rules.ReplaceChain && op.Chain.Name == "service/default/bad" })
		n.UpdateEndpointSlice(endpoints("b", "bad", "80", "10.0.0.3 10.0.0.4 10.0.0.5"))
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1 10.0.0.6"))
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.6:8080")
		n.expect("10.96.0.2:80", "10.0.0.3:80 10.0.0.4:80")
		refused := kernel.Refused()
		time.Sleep(time.Hour)
		tries := kernel.Refused() - refused
		if tries < 5 || tries > 30 {
			t.Errorf("%d tries in an hour, want some with growing intervals", tries)
		}
		kernel.Refuse(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		n.expect("10.96.0.2:80", "10.0.0.3:80 10.0.0.4:80 10.0.0.5:80")
	})
}

// TestRefusedWithoutObject finds the service whose objects make the kernel refuse
// the transaction as a whole.
func TestRefusedWithoutObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &silentKernel{}
		n := &node{t: t, kernel: &kernel.Kernel}
		n.Proxier = proxier.New(proxier.Config{Kernel: kernel})
		n.ReplaceNodes(nil)
		n.ReplaceServiceCIDRs(nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = n.Run(ctx) }()
		var objects []any
		for i := range 9 {
			objects = append(objects, service(fmt.Sprint("s", i), fmt.Sprint("10.96.0.", i+1), "80"))
		}
		n.lists(objects...)
		kernel.Refuse(func(op rules.Op) bool { return op.Kind == rules.AddChain && op.Chain.Name == "service/default/s4" })
		var slices []*discoveryv1.EndpointSlice
		for i := range 9 {
			slices = append(slices, endpoints(fmt.Sprint("e", i), fmt.Sprint("s", i), "80", "10.0.0.1 10.0.0.2"))
		}
		n.ReplaceEndpointSlices(slices)
		synctest.Wait()
		for i := range 9 {
			want := "10.0.0.1:80 10.0.0.2:80"
			if i == 4 {
				want = "rejected"
			}
			n.expect(fmt.Sprintf("10.96.0.%d:80", i+1), want)
		}
	})
}

// silentKernel refuses without naming objects.
type silentKernel struct{ rulestest.Kernel }

func (k *silentKernel) Apply(tx rules.Tx) error {
	if err := k.Kernel.Apply(tx); err != nil {
		return fmt.Errorf("refused: %s", err.Error())
	}
	return nil
}

// TestRepair puts back what somebody else changed: when told, with the next
// change, and by the audit.
func TestRepair(t *testing.T) {
	for name, wait := range map[string]func(*node){
		"told":        func(n *node) { n.changed <- struct{}{} },
		"next change": func(n *node) { n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2 10.0.0.9")) },
		"audit":       func(*node) { time.Sleep(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kernel := &rulestest.Kernel{}
				n := start(t, kernel)
				defer n.stop()
				n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1 10.0.0.2"),
					service("other", "10.96.0.2", "80"), endpoints("b", "other", "8080", "10.0.0.3 10.0.0.4"))
				kernel.Tamper(func(s *rules.State) { s.Tables[rules.IPv4] = nil })
				wait(n)
				synctest.Wait()
				n.expect("10.96.0.2:80", "10.0.0.3:8080 10.0.0.4:8080")
				n.expect("10.96.0.1:80", "10.0.0.1:8080 10.0.0.2:8080")
			})
		})
	}
}

// TestSourceRanges reads them as kube-proxy does, and never lets more clients in for one that
// cannot be read. Who asks is the pod 10.244.1.10.
func TestSourceRanges(t *testing.T) {
	const open, shut = "10.0.0.1:8080", "dropped"
	for _, tt := range []struct{ ranges, v4, v6 string }{
		{"", open, "[fd00:1::1]:8080"},
		{"10.244.0.0/16", open, "[fd00:1::1]:8080"},
		{"10.1.0.0/16", shut, "[fd00:1::1]:8080"},
		{"010.1.0.0/16", shut, "[fd00:1::1]:8080"},
		{"010.244.0.0/16", open, "[fd00:1::1]:8080"},
		{"10.244.9.9/16", open, "[fd00:1::1]:8080"},
		{"::ffff:10.1.0.0/112", shut, "[fd00:1::1]:8080"},
		{"::ffff:10.244.0.0/112", open, "[fd00:1::1]:8080"},
		{"fd00:9::/64", open, shut},
		{"nonsense", shut, shut},
		{"10.1.0.0/33 10.2.0.0/-1 fe80::1%eth0/64", shut, shut},
		{"nonsense 10.244.0.0/16", open, shut},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, &rulestest.Kernel{})
			defer n.stop()
			s := service("lb", "10.96.0.1 fd00::1", "80")
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.LoadBalancerSourceRanges = append(strings.Fields(tt.ranges), " ")
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {IP: "fd00:2::1"}}
			n.lists(s, endpoints("a", "lb", "8080", "10.0.0.1"), endpoints("b", "lb", "8080", "fd00:1::1"))
			for to, want := range map[string]string{"192.0.2.1:80": tt.v4, "[fd00:2::1]:80": tt.v6, "10.96.0.1:80": open} {
				if got := n.outcomes(to, 1); got != want {
					t.Errorf("ranges %q, to %s: %s, want %s", tt.ranges, to, got, want)
				}
			}
			if bad := strings.Contains(tt.ranges, "nonsense") || strings.Contains(tt.ranges, "/33"); bad != (len(n.events) > 0) {
				t.Errorf("ranges %q: events %q", tt.ranges, n.events)
			}
		})
	}
}

// TestOthersSlices: EndpointSlices that are not for a service proxy are no fault.
func TestOthersSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		nobodys := endpoints("x", "web", "8080", "10.0.0.1")
		nobodys.Labels = map[string]string{"multicluster.kubernetes.io/service-name": "web"}
		n.lists(fqdn(), nobodys)
		if len(n.events) > 0 || strings.Contains(n.log.String(), "Skipped") {
			t.Errorf("events %q, log:\n%s", n.events, n.log.String())
		}
	})
}

// TestFlows says which frontends' flows are looked through.
func TestFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		for _, tt := range []struct {
			name   string
			change func()
			want   string
		}{
			{"the start", func() { // endpoints may have gone before
				n.lists(service("dns", "10.96.0.1", "53/UDP"), endpoints("a", "dns", "53/UDP", "10.0.0.1 10.0.0.2"), service("web", "10.96.0.2", "80"))
			}, "[10.96.0.1:53/17 [10.0.0.1:53 10.0.0.2:53] 10.96.0.2:80/6 []]"},
			{"an endpoint more", func() { n.UpdateEndpointSlice(endpoints("a", "dns", "53/UDP", "10.0.0.1 10.0.0.2 10.0.0.3")) }, "[10.96.0.1:53/17 [10.0.0.1:53 10.0.0.2:53 10.0.0.3:53]]"},
			{"one is draining", func() { n.UpdateEndpointSlice(endpoints("a", "dns", "53/UDP", "10.0.0.1 10.0.0.2t 10.0.0.3")) }, "[10.96.0.1:53/17 [10.0.0.1:53 10.0.0.2:53 10.0.0.3:53]]"},
			{"another port of TCP", func() { n.UpdateService(service("web", "10.96.0.2", "81")) }, "[10.96.0.2:80/6 [] 10.96.0.2:81/6 []]"},
			{"an endpoint of TCP", func() { n.UpdateEndpointSlice(endpoints("w", "web", "80", "10.0.0.1")) }, "[]"},
			{"an endpoint less", func() { n.UpdateEndpointSlice(endpoints("a", "dns", "53/UDP", "10.0.0.1 10.0.0.3")) }, "[10.96.0.1:53/17 [10.0.0.1:53 10.0.0.3:53]]"},
			{"one not ready", func() { n.UpdateEndpointSlice(endpoints("a", "dns", "53/UDP", "10.0.0.1 10.0.0.3x")) }, "[10.96.0.1:53/17 [10.0.0.1:53] unready [10.0.0.3:53]]"},
			{"the last gone", func() { n.UpdateEndpointSlice(endpoints("a", "dns", "53/UDP", "")) }, "[10.96.0.1:53/17 []]"},
			{"the first one", func() { n.UpdateEndpointSlice(endpoints("a", "dns", "53/UDP", "10.0.0.1")) }, "[10.96.0.1:53/17 [10.0.0.1:53]]"},
			{"another service port has the address", func() {
				n.UpdateEndpointSlice(endpoints("n", "new", "53/UDP", "10.0.0.7"))
				n.UpdateService(service("new", "10.96.0.1", "53/UDP")) // which waits for the older one to go
				n.UpdateService(service("dns", "10.96.0.9", "53/UDP"))
			}, "[10.96.0.1:53/17 [10.0.0.7:53] 10.96.0.9:53/17 [10.0.0.1:53]]"},
			{"the service gone", func() { n.DeleteService("default", "new") }, "[10.96.0.1:53/17 []]"},
		} {
			time.Sleep(10 * time.Second) // for the second looks
			n.flows.Lock()
			n.cleaned = nil
			n.flows.Unlock()
			tt.change()
			synctest.Wait()
			if strings.Contains(tt.want, "/6 ") { // TCP's wait
				time.Sleep(time.Second)
				synctest.Wait()
			}
			var got []string
			n.flows.Lock()
			cleaned := n.cleaned
			n.flows.Unlock()
			for _, c := range cleaned {
				text := fmt.Sprintf("%s:%d/%d %v", c.Addr, c.Port, c.Protocol, c.Endpoints)
				if len(c.Unready) > 0 {
					text += fmt.Sprintf(" unready %v", c.Unready)
				}
				got = append(got, text)
			}
			slices.Sort(got)
			if s := fmt.Sprint(got); s != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
			}
		}
	})
}

// TestModel makes random changes to objects. The state must equal that of a
// proxier that sees only the end.
func TestModel(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			kernel := &rulestest.Kernel{}
			n := start(t, kernel)
			defer n.stop()
			n.lists()
			services := map[string]*corev1.Service{}
			slices := map[string]*discoveryv1.EndpointSlice{}
			for range 120 {
				randomChange(r, n, services, slices)
				if r.IntN(3) > 0 {
					continue // let changes gather
				}
				synctest.Wait()
				fresh := start(t, &rulestest.Kernel{})
				var objects []any
				for _, s := range services {
					objects = append(objects, s)
				}
				for _, s := range slices {
					objects = append(objects, s)
				}
				fresh.lists(objects...)
				fresh.stop()
				if got, want := text(kernel.State()), text(fresh.kernel.State()); got != want {
					t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
				}
			}
		})
	}
}

func randomChange(r *rand.Rand, n *node, services map[string]*corev1.Service, slices map[string]*discoveryv1.EndpointSlice) {
	name := fmt.Sprint("s", r.IntN(5))
	if r.IntN(3) == 0 {
		if services[name] != nil && r.IntN(3) == 0 {
			delete(services, name)
			n.DeleteService("default", name)
			return
		}
		ips := fmt.Sprintf("10.96.0.%d fd00::%d", 1+r.IntN(4), 1+r.IntN(4)) // some conflict
		s := created(service(name, ips, "80", "dns:53/UDP"), r.Int64N(3))
		services[name] = s
		n.UpdateService(s)
		return
	}
	slice := fmt.Sprint("e", r.IntN(8))
	if slices[slice] != nil && r.IntN(3) == 0 {
		delete(slices, slice)
		n.DeleteEndpointSlice("default", slice)
		return
	}
	var addrs []string
	prefix := []string{"10.0.0.", "fd01::"}[r.IntN(2)]
	for range r.IntN(4) {
		addrs = append(addrs, fmt.Sprintf("%s%d%s", prefix, 1+r.IntN(5), []string{"", "", "-", "t"}[r.IntN(4)]))
	}
	es := endpoints(slice, name, []string{"8080", "dns:53/UDP"}[r.IntN(2)], strings.Join(addrs, " "))
	if r.IntN(2) == 0 {
		for i := range es.Endpoints {
			es.Endpoints[i].NodeName = ptr.To("here")
		}
	}
	slices[slice] = es
	n.UpdateEndpointSlice(es)
}

// TestCommitRate: after a burst changes are gathered; none waits for long.
func TestCommitRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		n := start(t, kernel)
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
		time.Sleep(time.Minute)
		kernel.Applied()
		began := time.Now()
		for i := range 3000 { // 300 a second
			n.UpdateEndpointSlice(endpoints("a", "web", "8080", fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250)))
			synctest.Wait()
			if i < 90 {
				n.expect("10.96.0.1:80", fmt.Sprintf("10.1.%d.%d:8080", i/250, 1+i%250)) // at once
			}
			time.Sleep(time.Second / 300)
		}
		if commits, took := len(kernel.Applied()), time.Since(began); float64(commits) > 101+30*took.Seconds() {
			t.Errorf("%d commits in %s, want at most 100 and 30 a second", commits, took)
		}
		time.Sleep(40 * time.Millisecond)
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.1.11.250:8080")
		time.Sleep(5 * time.Second) // rest: the next one is immediate again
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.9"))
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.0.0.9:8080")
	})
}
