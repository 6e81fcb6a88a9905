// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// Who connects, in the tests below.
const (
	fromPod     = "10.244.1.10"
	fromNode    = "172.18.0.2"
	fromOutside = "172.18.0.1"
)

// Where they connect to.
const (
	toClusterIP = "10.96.0.10:80"
	toNodePort  = "172.18.0.2:30080"
	toLB        = "10.100.0.1:80"
	toExternal  = "10.100.0.2:80"
)

// full is a service port with every kind of frontend.
func full() rules.ServicePort {
	sp := servicePort("", rules.TCP, toClusterIP)
	sp.NodePort = 30080
	sp.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("10.100.0.1")}
	sp.ExternalIPs = []netip.Addr{netip.MustParseAddr("10.100.0.2")}
	return sp
}

// on returns ready endpoints: local ones at 10.244.1.x, remote ones at 10.244.2.x.
func on(addrs ...string) []rules.Endpoint {
	out := ready(addrs...)
	for i := range out {
		out[i].Local = strings.HasPrefix(addrs[i], "10.244.1.")
	}
	return out
}

// TestPolicies sends packets to every kind of frontend from everywhere, for each
// traffic policy and place of endpoints.
func TestPolicies(t *testing.T) {
	const l, r = "10.244.1.2:8080", "10.244.2.2:8080"
	anywhere := []string{toNodePort, toLB, toExternal}
	type want map[string]string // from: outcome
	for _, tt := range []struct {
		name      string
		change    func(*rules.ServicePort)
		endpoints []rules.Endpoint
		to        []string
		want      want
	}{
		{"external Cluster", nil, on(r), anywhere,
			want{fromPod: r + " masqueraded", fromNode: r + " masqueraded", fromOutside: r + " masqueraded"}},
		{"external Local, an endpoint here", func(sp *rules.ServicePort) { sp.ExternalLocal = true }, on(l, r), anywhere,
			want{fromPod: l + "," + r, fromNode: l + " masqueraded," + r + " masqueraded", fromOutside: l}},
		{"external Local, endpoints elsewhere", func(sp *rules.ServicePort) { sp.ExternalLocal = true }, on(r), anywhere,
			want{fromPod: r, fromNode: r + " masqueraded", fromOutside: "dropped"}},
		{"external Local, no endpoint anywhere", func(sp *rules.ServicePort) { sp.ExternalLocal = true }, nil, anywhere,
			want{fromPod: "rejected", fromNode: "rejected", fromOutside: "rejected"}},
		{"external Local does not matter to the ClusterIP", func(sp *rules.ServicePort) { sp.ExternalLocal = true }, on(r), []string{toClusterIP},
			want{fromPod: r, fromNode: r + " masqueraded", fromOutside: r + " masqueraded"}},
		{"internal Local, an endpoint here", func(sp *rules.ServicePort) { sp.InternalLocal = true }, on(l, r), []string{toClusterIP},
			want{fromPod: l, fromNode: l + " masqueraded", fromOutside: l + " masqueraded"}},
		{"internal Local, endpoints elsewhere", func(sp *rules.ServicePort) { sp.InternalLocal = true }, on(r), []string{toClusterIP},
			want{fromPod: "dropped", fromNode: "dropped", fromOutside: "dropped"}},
		{"internal Local, no endpoint anywhere", func(sp *rules.ServicePort) { sp.InternalLocal = true }, nil, []string{toClusterIP},
			want{fromPod: "rejected", fromNode: "rejected", fromOutside: "rejected"}},
		{"internal Local does not matter outside", func(sp *rules.ServicePort) { sp.InternalLocal = true }, on(r), anywhere,
			want{fromPod: r + " masqueraded", fromNode: r + " masqueraded", fromOutside: r + " masqueraded"}},
		{"both Local", func(sp *rules.ServicePort) { sp.InternalLocal, sp.ExternalLocal = true, true }, on(l, r), anywhere,
			want{fromPod: l + "," + r, fromOutside: l}},
		{"no endpoints", nil, nil, append(anywhere, toClusterIP), want{fromPod: "rejected", fromNode: "rejected", fromOutside: "rejected"}},
		{"source ranges shut out", sources("10.9.0.0/16"), on(r), []string{toLB},
			want{fromPod: "dropped", fromNode: "dropped", fromOutside: "dropped"}},
		{"source ranges let in", sources("10.9.0.0/16", "172.18.0.1/32"), on(r), []string{toLB},
			want{fromPod: "dropped", fromNode: "dropped", fromOutside: r + " masqueraded"}},
		{"source ranges do not matter to others", sources("10.9.0.0/16"), on(r), []string{toNodePort, toExternal},
			want{fromPod: r + " masqueraded", fromOutside: r + " masqueraded"}},
		{"source ranges that hold everything", sources("10.9.0.0/16", "0.0.0.0/0"), on(r), []string{toLB},
			want{fromPod: r + " masqueraded", fromOutside: r + " masqueraded"}},
		{"source ranges of the other family only", sources("fd00::/8"), on(r), []string{toLB},
			want{fromOutside: r + " masqueraded"}},
		{"source ranges that hold the node let the address itself in", sources("172.18.0.0/30"), on(r), []string{toLB},
			want{"10.100.0.1": r + " masqueraded", fromNode: r + " masqueraded", fromPod: "dropped"}},
		{"source ranges under Local", func(sp *rules.ServicePort) { sources("10.244.0.0/16")(sp); sp.ExternalLocal = true }, on(l, r), []string{toLB},
			want{fromPod: l + "," + r, fromNode: "dropped", fromOutside: "dropped"}},
		{"source ranges without endpoints", sources("10.244.0.0/16"), nil, []string{toLB},
			want{fromPod: "rejected", fromOutside: "dropped"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sp := full()
			if tt.change != nil {
				tt.change(&sp)
			}
			for _, to := range tt.to {
				for from, want := range tt.want {
					tr := trace(sp, tt.endpoints)
					list := strings.Split(want, ",")
					for range 2 {
						for _, want := range list {
							if got := send(t, tr, from, to); got != want {
								t.Errorf("from %s to %s: %s, want %s", from, to, got, want)
							}
						}
					}
				}
			}
		})
	}
}

func sources(ranges ...string) func(*rules.ServicePort) {
	return func(sp *rules.ServicePort) {
		for _, r := range ranges {
			sp.SourceRanges = append(sp.SourceRanges, netip.MustParsePrefix(r))
		}
	}
}

// trace returns a tr through the rules for one service port.
func trace(sp rules.ServicePort, endpoints []rules.Endpoint) *tracer.Tracer {
	d := rules.NewDesired(testConfig, testNode)
	d.Update([]rules.Owned{owned(sp, endpoints)})
	return &tracer.Tracer{State: d.State(), Local: []netip.Addr{netip.MustParseAddr(fromNode)}}
}

func send(t *testing.T, tr *tracer.Tracer, from, to string) string {
	t.Helper()
	src := netip.AddrPortFrom(netip.MustParseAddr(from), 40000)
	became, err := tr.Trace(tracer.Packet{Protocol: rules.TCP, Src: src, Dst: netip.MustParseAddrPort(to)}, from == fromNode)
	if err != nil {
		t.Fatal(err)
	}
	return fateText(became)
}

// TestAffinity sends several packets of the same and of other clients.
func TestAffinity(t *testing.T) {
	const a, b, c = "10.244.1.2:8080", "10.244.2.2:8080", "10.244.2.3:8080"
	sticky := func(change func(*rules.ServicePort)) rules.ServicePort {
		sp := full()
		sp.Affinity = 10800
		if change != nil {
			change(&sp)
		}
		return sp
	}
	tr := trace(sticky(nil), on(a, b, c))
	for i, want := range []string{a, c, b} { // three clients, in this node's turn
		client := netip.AddrFrom4([4]byte{10, 244, 1, byte(20 + i)}).String()
		for _, to := range []string{toClusterIP, toNodePort, toLB, toExternal, toClusterIP} {
			got := send(t, tr, client, to)
			if got, _, _ = strings.Cut(got, " "); got != want {
				t.Errorf("client %s to %s: %s, want %s each time", client, to, got, want)
			}
		}
	}

	// A client inside stays with an endpoint elsewhere; one outside must not get it.
	tr = trace(sticky(func(sp *rules.ServicePort) { sp.ExternalLocal = true }), on(a, b))
	for _, s := range []struct{ from, to, want string }{
		{fromPod, toLB, a}, {fromPod, toLB, a}, {fromPod, toClusterIP, a},
		{fromOutside, toClusterIP, b + " masqueraded"}, {fromOutside, toClusterIP, b + " masqueraded"},
		{fromOutside, toLB, a}, {fromOutside, toNodePort, a}, {fromOutside, toClusterIP, b + " masqueraded"},
	} {
		if got := send(t, tr, s.from, s.to); got != s.want {
			t.Errorf("from %s to %s: %s, want %s", s.from, s.to, got, s.want)
		}
	}
}

// TestAffinityOfAnEndpointThatLeaves: from the transaction on that takes an endpoint away its clients go to others,
// once, and nobody else moves, without a change of the maps of clients; a client that did not connect while the
// endpoint was away may go back to it. The same address with another port is another endpoint.
func TestAffinityOfAnEndpointThatLeaves(t *testing.T) {
	const a, b, c, d = "10.244.2.2:1", "10.244.2.2:257", "10.244.2.3:1", "10.244.2.4:1"
	for _, local := range []bool{false, true} {
		sp := full()
		sp.Affinity, sp.ExternalLocal = 100, local
		desired := rules.NewDesired(testConfig, testNode)
		kernel, err := rules.State{}.Apply(rules.Diff(rules.State{}, desired.State()))
		if err != nil {
			t.Fatal(err)
		}
		update := func(endpoints ...string) {
			t.Helper()
			list := on(endpoints...)
			for i := range list {
				list[i].Local = true
			}
			kernel = applyCut(t, kernel, desired.Update([]rules.Owned{owned(sp, list)}))
		}
		clients := []string{fromPod, fromOutside, fromNode, "10.244.1.21", "10.244.1.22", "203.0.113.9", "203.0.113.10", "203.0.113.11"}
		targets := []string{toClusterIP, toNodePort, toLB, toExternal}
		where := func() map[string]string {
			t.Helper()
			tr := &tracer.Tracer{State: kernel, Local: []netip.Addr{netip.MustParseAddr(fromNode)}}
			out := map[string]string{}
			for _, from := range clients {
				for _, to := range targets {
					key, _, _ := strings.Cut(send(t, tr, from, to), " ")
					if to == toClusterIP || !local { // under the policy Local another map remembers those from outside
						to = "anywhere"
					}
					if was, ok := out[from+" "+to]; ok && was != key {
						t.Fatalf("policy Local %v: %s to %s: %s, then %s", local, from, to, was, key)
					}
					out[from+" "+to] = key
				}
			}
			return out
		}
		compare := func(what, gone string, before, after map[string]string) {
			t.Helper()
			for who, was := range before {
				switch now := after[who]; {
				case was != gone && now != was:
					t.Errorf("policy Local %v: %s: %s moved from %s to %s", local, what, who, was, now)
				case now == gone:
					t.Errorf("policy Local %v: %s: %s is sent to %s, which is gone", local, what, who, now)
				}
			}
		}
		update(a, b, c)
		first := where()
		update(b, c, d)
		second := where()
		compare("an endpoint left", a, first, second)
		update(a, b, c, d)
		compare("it came back", "", second, where())
		update(a, c)
		update(a, b, c, d)
		compare("endpoints were away while nobody connected", "", second, where())
		update(c)
		compare("all but one left", b, map[string]string{}, where())
	}
}

// TestSchedulers counts where the connections of many clients go.
func TestSchedulers(t *testing.T) {
	endpoints := on("10.244.2.2:1", "10.244.2.3:1", "10.244.2.4:1")
	for _, to := range []string{toClusterIP, toNodePort} {
		for _, s := range []rules.Scheduler{rules.Random, rules.SourceHash, rules.ClientHash, rules.Maglev} {
			sp := full()
			sp.Scheduler, sp.TableSize = s, 13
			tr := trace(sp, endpoints)
			hits := map[string]int{}
			same := 0
			for i := range 300 {
				from := netip.AddrFrom4([4]byte{10, 244, 3, byte(i)}).String()
				one, two := send(t, tr, from, to), send(t, tr, from, to)
				hits[one]++
				if one == two {
					same++
				}
			}
			if len(hits) != 3 {
				t.Errorf("%s to %s: hits %v, want all endpoints", s, to, hits)
			}
			if s != rules.Random && same != 300 || s == rules.Random && same == 300 {
				t.Errorf("%s to %s: %d of 300 clients got the same endpoint twice", s, to, same)
			}
		}
	}
	sp := full()
	sp.Scheduler = rules.Random
	sp.NodePort = 0
	if o := rules.Build(sp, endpoints, testConfig, testNode); len(o.Chains) != 0 || len(o.Shared) != 1 {
		t.Errorf("chains %v, shared %v: want one shared chain only", o.Chains, o.Shared)
	}
}

// TestSchedulersWithManyFrontends: where each frontend would have its own copy of many endpoints, one chain has them.
func TestSchedulersWithManyFrontends(t *testing.T) {
	for _, s := range []rules.Scheduler{rules.Random, rules.SourceHash, rules.ClientHash} {
		sp := full()
		sp.Scheduler, sp.NodePort, sp.EndpointLimit = s, 0, 5
		endpoints := on("10.244.2.2:1", "10.244.2.3:1", "10.244.2.4:1", "10.244.2.5:1", "10.244.2.6:1", "10.244.2.7:1")
		o := rules.Build(sp, endpoints, testConfig, testNode)
		if len(o.Chains) != 1 || len(o.Shared) != 0 || o.LeftOut != 1 || len(o.Backends()) != 5 {
			t.Errorf("%s: chains %v, shared %v, %d left out, backends %v: want a chain of its own, and one endpoint of six left out", s, o.Chains, o.Shared, o.LeftOut, o.Backends())
		}
		tr := trace(sp, endpoints)
		hits, same := map[string]int{}, 0
		for i := range 300 {
			from := netip.AddrFrom4([4]byte{10, 244, 3, byte(i)}).String()
			one, two := send(t, tr, from, toClusterIP), send(t, tr, from, toClusterIP)
			hits[one]++
			if one == two {
				same++
			}
		}
		if len(hits) != 5 || s != rules.Random && same != 300 || s == rules.Random && same == 300 {
			t.Errorf("%s: hits %v; %d of 300 clients got the same endpoint twice", s, hits, same)
		}
	}
}

// TestUnallocated sends to addresses of a range of ClusterIPs.
func TestUnallocated(t *testing.T) {
	node := testNode
	node.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	d := rules.NewDesired(testConfig, rules.Node{})
	kernel, err := rules.State{}.Apply(rules.Diff(rules.State{}, d.State()))
	if err != nil {
		t.Fatal(err)
	}
	kernel = applyCut(t, kernel, d.Update([]rules.Owned{owned(servicePort("", rules.TCP, toClusterIP), on("10.244.2.2:1"))}))
	kernel = applyCut(t, kernel, d.SetNode(node))
	if text(t, kernel) != text(t, d.State()) {
		t.Errorf("after SetNode: got\n%s\nwant\n%s", text(t, kernel), text(t, d.State()))
	}
	tr := &tracer.Tracer{State: kernel}
	for to, want := range map[string]string{
		toClusterIP: "10.244.2.2:1", "10.96.0.10:81": "rejected", "10.96.0.11:80": "dropped", "10.97.0.1:80": "10.97.0.1:80",
	} {
		if got := send(t, tr, fromPod, to); got != want {
			t.Errorf("to %s: %s, want %s", to, got, want)
		}
	}
}

// TestPodInterface tells pods by the interface that they come from.
func TestPodInterface(t *testing.T) {
	for pattern, pods := range map[string][]string{"cni0": {"cni0"}, "veth*": {"veth1", "veth"}} {
		c := testConfig
		c.PodInterface = pattern
		d := rules.NewDesired(c, testNode)
		sp := full()
		sp.ExternalLocal = true
		d.Update([]rules.Owned{{Owner: owner(sp), Objects: rules.Build(sp, on("10.244.2.2:1"), c, testNode)}})
		tr := &tracer.Tracer{State: d.State()}
		for _, name := range append(pods, "eth0", "") {
			want := map[string]string{toClusterIP: "10.244.2.2:1 masqueraded", toLB: "dropped"}
			if name != "eth0" && name != "" {
				want = map[string]string{toClusterIP: "10.244.2.2:1", toLB: "10.244.2.2:1"}
			}
			for to, want := range want {
				became, err := tr.Trace(tracer.Packet{Protocol: rules.TCP, Interface: name,
					Src: netip.MustParseAddrPort("10.244.1.10:1"), Dst: netip.MustParseAddrPort(to)}, false)
				if err != nil {
					t.Fatal(err)
				}
				if got := fateText(became); got != want {
					t.Errorf("%s: from interface %q to %s: %s, want %s", pattern, name, to, got, want)
				}
			}
		}
	}
}
