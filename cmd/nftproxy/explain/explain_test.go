// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/internal/golden"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/proxier/source/manifests"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// node is a node whose kernel was programmed with the manifests of testdata.
type node struct {
	*World
	observer *Observer
	kernel   *rulestest.Kernel
}

// programmed returns a node that runs with a configuration, on a kernel in memory.
func programmed(t *testing.T, config func(*proxier.Config)) node {
	t.Helper()
	objects, errs := manifests.Source{Dir: "testdata/manifests"}.Read()
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	n := node{observer: NewObserver(), kernel: &rulestest.Kernel{}}
	c := proxier.Config{Kernel: n.kernel, Events: n.observer, Cluster: cluster.Config{NodeName: "here"}, Rules: rules.Config{
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}}.WithDefaults()}
	if config != nil {
		config(&c)
	}
	p := proxier.New(c)
	p.SetAPIServers([]netip.AddrPort{netip.MustParseAddrPort("203.0.113.5:6443")})
	n.observer.Sink = p
	n.observer.ReplaceNodes(objects.Nodes)
	n.observer.ReplaceServiceCIDRs(objects.ServiceCIDRs)
	n.observer.ReplaceServices(objects.Services)
	n.observer.ReplaceEndpointSlices(objects.EndpointSlices)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-p.Synced()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	have := n.kernel.State()
	n.World = n.observer.World()
	n.Snapshot, n.Have = p.Snapshot(), &have
	for _, a := range n.Node.IPs {
		n.Local = append(n.Local, a)
	}
	return n
}

// text explains a target to clients, who are named as with --from.
func (w *World) text(t *testing.T, target string, rules bool, from ...string) string {
	t.Helper()
	parsed, err := ParseTarget(target, "")
	if err != nil {
		t.Fatal(err)
	}
	var clients []Client
	for _, name := range from {
		switch name {
		case "node":
			clients = append(clients, w.NodeClient())
		case "outside":
			clients = append(clients, w.OutsideClient())
		default:
			clients = append(clients, w.ClientAt(netip.MustParseAddr(name)))
		}
	}
	e, err := w.Explain(parsed, clients)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := e.WriteText(&out, Style{Rules: rules}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestText: each Service of the manifests, as it is explained to each kind of client.
func TestText(t *testing.T) {
	n := programmed(t, nil)
	for _, target := range []string{"default/web", "default/zones", "default/nodes", "default/none", "default/unready", "default/local", "default/outer",
		"default/sticky", "default/many", "default/first", "default/second", "other/api", "default/faulty", "default/hostile", "default/shares", "default/fewest", "default/alike", "default/coarse"} {
		t.Run(strings.ReplaceAll(target, "/", "_"), func(t *testing.T) { golden.Check(t, golden.Named(t, ".txt"), n.text(t, target, false)) })
	}
}

// TestTextOf shows what depends on the client, on options and on what the kernel holds.
func TestTextOf(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config func(*proxier.Config)
		change func(*World)
		target string
		from   []string
		rules  bool
	}{
		{name: "rules", target: "default/outer", rules: true},
		{name: "an endpoint that connects to itself", target: "default/zones", from: []string{"10.244.1.3"}},
		{name: "in the ranges", target: "10.200.0.15:443", from: []string{"198.51.100.9", "192.0.2.1", "192.0.2.250"}},
		{name: "in the ranges of IPv6", target: "[fd00:200::15]:443", from: []string{"2001:db8:1::1", "2001:db8:2::1", "fd00:244:2::1"}},
		{name: "at a NodePort", target: "172.18.0.2:30016/tcp", from: []string{"outside", "10.244.2.99", "node"}},
		{name: "no such port", target: "10.96.0.10:81/udp"},
		{name: "no such port of IPv6", target: "[fd00:10:96::a]:81/tcp"},
		{name: "one port by its name", target: "default/web:http", from: []string{"node"}},
		{name: "masquerade all", target: "default/zones", from: []string{"10.244.2.99"},
			config: func(c *proxier.Config) { c.Rules.MasqueradeAll = true }},
		{name: "pods by their interface", target: "default/zones",
			config: func(c *proxier.Config) { c.Rules.PodCIDRs, c.Rules.PodInterface = nil, "cni0" }},
		{name: "pods not known", target: "default/zones",
			config: func(c *proxier.Config) { c.Rules.PodCIDRs = nil }},
		{name: "options not known", target: "default/web",
			config: func(c *proxier.Config) { c.Rules.PodCIDRs = nil }, change: func(w *World) { w.PodsUnknown = true }},
		{name: "another scheduler", target: "default/zones:80", from: []string{"outside"},
			config: func(c *proxier.Config) { c.Cluster.Scheduler = rules.Random }},
		{name: "no address for NodePorts", target: "default/outer", from: []string{"outside"},
			change: func(w *World) { w.Node.NodePortIPs = nil }},
		{name: "remembered clients", target: "default/sticky", change: func(w *World) { remember(w, 8) }, from: []string{"10.244.2.1", "10.244.2.3", "outside"}},
		{name: "all remembered clients", target: "default/sticky", change: func(w *World) { remember(w, 8) }},
		{name: "kernel not compared", target: "default/zones", from: []string{"node"},
			change: func(w *World) { w.Have, w.Problem = nil, "open netlink socket: \x1b[31mno" }},
		{name: "kernel differs", target: "default/zones", from: []string{"node"}, change: func(w *World) {
			have := w.Have.Clone()
			table := have.Tables[rules.IPv4]
			delete(table.Sets[rules.SetID{Kind: rules.Single}], rules.Key{Addr: netip.MustParseAddr("10.96.0.11"), Protocol: rules.TCP, Port: 80})
			services := table.Chains["services"]
			services.Rules = services.Rules[1:]
			table.Chains["services"] = services
			w.Have = &have
		}},
		{name: "many notes and frontends", target: "default/many", from: []string{"outside"}, change: func(w *World) {
			for range 25 {
				w.Notes["default/many"] = append(w.Notes["default/many"], "a\tnote")
			}
			for i := range w.Ports {
				if p := &w.Ports[i]; p.Name.Name == "many" {
					p.ExternalIPs = nil
					for a := netip.MustParseAddr("10.202.0.0"); len(p.ExternalIPs) < mostFrontends+7; a = a.Next() {
						p.ExternalIPs = append(p.ExternalIPs, a)
					}
				}
			}
		}},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			n := programmed(t, tt.config)
			if tt.change != nil {
				tt.change(n.World)
			}
			text := n.text(t, tt.target, tt.rules, tt.from...)
			if lines := strings.SplitAfter(text, "\n"); len(lines) > 100 {
				text = strings.Join(append(lines[:10], lines[len(lines)-26:]...), "")
			}
			golden.Check(t, golden.Named(t, ".txt"), text)
		})
	}
}

// remember has the kernel remember n clients of default/sticky, each with an endpoint that is there or, each third one, is gone.
func remember(w *World, n int) {
	have := w.Have.Clone()
	table := have.Tables[rules.IPv4]
	for i := range w.Ports {
		for _, m := range w.Ports[i].Objects.Affinity {
			if w.Ports[i].Name.Name != "sticky" || w.Ports[i].Family != rules.IPv4 {
				continue
			}
			held := table.Affinity[m.Set]
			held.Clients = map[rules.Key]rules.Lifetime{}
			a := netip.MustParseAddr("10.244.2.0")
			for c := range n {
				a = a.Next()
				to := []string{"10.244.1.7:8080", "10.244.2.13:8080", "10.244.2.66:8080"}[c%3]
				table.Sets[m.Set][rules.Key{Addr: a}] = rules.Value{To: netip.MustParseAddrPort(to)}
				held.Clients[rules.Key{Addr: a}] = rules.Lifetime{Expires: uint64(c+1) * 90_000}
			}
			table.Affinity[m.Set] = held
		}
	}
	w.Have = &have
}

// TestEveryReason: each reason of a connection or an endpoint is given by some world of these tests.
func TestEveryReason(t *testing.T) {
	given := map[reason.Code]bool{
		reason.UnknownChain:      true, // by command trace
		reason.BySourceRanges:    true, // likewise
		reason.NoNodePortAddress: true, // a problem, in TestTextOf
		reason.NamedTwice:        true, // where nothing else says why: no endpoints are known that lead there
	}
	collect := func(w *World, from ...string) {
		for i := range w.Ports {
			target := Target{Text: "all", Namespace: w.Ports[i].Name.Namespace, Name: w.Ports[i].Name.Name}
			var clients []Client
			for _, a := range from {
				clients = append(clients, w.ClientAt(netip.MustParseAddr(a)))
			}
			e, err := w.Explain(target, clients)
			if err != nil {
				continue // it is not in the client's family
			}
			for _, p := range e.Ports {
				for _, endpoint := range p.Endpoints {
					for _, c := range endpoint.Codes {
						given[c] = true
					}
				}
				for _, f := range p.Frontends {
					for _, client := range f.Clients {
						for _, c := range client.Codes {
							given[c] = true
						}
					}
				}
			}
		}
	}
	n := programmed(t, func(c *proxier.Config) { c.Rules.MasqueradeAll = true })
	collect(n.World)
	n = programmed(t, nil)
	remember(n.World, 3)
	n.Ports = append(n.Ports, proxier.Port{ServicePort: rules.ServicePort{ // that the kernel does not have yet
		Name: rules.ServicePortName{Namespace: "default", Name: "new"}, Protocol: rules.TCP, ExternalIPs: []netip.Addr{netip.MustParseAddr("10.203.0.1")}, Port: 80}})
	collect(n.World)
	collect(n.World, "10.244.1.3", "10.244.2.1", "10.244.2.3")
	for _, at := range []string{"10.96.0.10:81/tcp", "10.96.200.1:80/tcp"} {
		target, err := ParseTarget(at, "")
		if err != nil {
			t.Fatal(err)
		}
		n.Ports = append(n.Ports, proxier.Port{ServicePort: rules.ServicePort{Name: rules.ServicePortName{Namespace: "x", Name: at}, Protocol: rules.TCP,
			ExternalIPs: []netip.Addr{target.Frontend.Addr}, Port: target.Frontend.Port}})
	}
	collect(n.World)
	n.Slices = nil // as where the kernel is all that is known
	collect(n.World)
	for c := reason.NoEndpoint; c <= reason.NotOnThisNode; c++ {
		if !given[c] {
			t.Errorf("reason %s is never given", c)
		}
	}
}

// TestNoEndpoint: each way in which a Service can have no endpoint is told from the others.
func TestNoEndpoint(t *testing.T) {
	p := &proxier.Port{ServicePort: rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: "web", Port: "http"}, Protocol: rules.TCP}}
	web := []cluster.SlicePort{{Name: "web", Protocol: rules.TCP, Port: 8080}, {Protocol: rules.UDP, Port: 53}}
	for name, tt := range map[string]struct {
		slices []cluster.SliceLook
		want   reason.Code
		text   string
	}{
		"no slice":      {nil, reason.NoSlice, "there is no EndpointSlice of it"},
		"of IPv6 only":  {[]cluster.SliceLook{{Family: rules.IPv6, Ports: web, Endpoints: 1}}, reason.NoSliceFamily, "no EndpointSlice of it has IPv4 addresses"},
		"empty":         {[]cluster.SliceLook{{Ports: web}}, reason.EmptySlices, "have no endpoint"},
		"without ports": {[]cluster.SliceLook{{Endpoints: 2}}, reason.SliceNoPort, "but no port"},
		"another name":  {[]cluster.SliceLook{{Ports: web, Endpoints: 2}, {Ports: web, Endpoints: 1}}, reason.OtherPorts, "have port web (8080/tcp), without a name (53/udp), the Service targets http (tcp)"},
	} {
		w := &World{Slices: map[string][]cluster.SliceLook{"default/web": tt.slices}}
		if got := noEndpoint(w.Slices, p); got.Code != tt.want || !strings.Contains(got.Text, tt.text) {
			t.Errorf("%s: %s %q, want %s %q", name, got.Code, got.Text, tt.want, tt.text)
		}
	}
	if got := noEndpoint(nil, p); got.Code != reason.NoEndpoint {
		t.Errorf("nothing is known of slices: %s", got.Code)
	}
}

// TestParseTarget: each way to name a Service or an address.
func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"web": "demo/web", "web:http": "demo/web:http", "svc/web": "demo/web", "service/web:80": "demo/web:80", "other/web": "other/web",
		"web.other": "other/web", "web.other:80": "other/web:80", "web.other.svc": "other/web", "web.other.svc.cluster.local": "other/web",
		"web.other.svc.cluster.local.": "other/web", "10.96.0.10": "10.96.0.10", "fd00::1": "fd00::1", "10.96.0.10:80": "10.96.0.10:80",
		"web.other.svx": "", "10.96.0.300": "", "10.96.0.10/tcp": "", "10.96.0.10:0/tcp": "", "a/b/c": "", "": "",
	} {
		target, err := ParseTarget(text, "demo")
		if got := target.Service(); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
}

// TestBareAddress: all ports at an address, and no other address of theirs.
func TestBareAddress(t *testing.T) {
	n := programmed(t, nil)
	target, err := ParseTarget("10.96.0.10", "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.Explain(target, nil)
	if err != nil || len(e.Ports) == 0 {
		t.Fatalf("%v", err)
	}
	for _, p := range e.Ports {
		for _, f := range p.Frontends {
			if !strings.HasPrefix(f.Address, "10.96.0.10:") || p.Service != "default/web" {
				t.Errorf("%s %s", p.Service, f.Address)
			}
		}
	}
}
