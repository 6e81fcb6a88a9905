// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestExplainEndpoints: an endpoint counts as SelectEndpoints says, and where it does not under a
// policy that is in use, and only there, is a reason. Each reason occurs.
func TestExplainEndpoints(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	coin := func() bool { return r.IntN(2) == 0 }
	hints := [][]string{nil, {"a"}, {"b"}, {"a", "b"}}
	met := map[string]bool{}
	for range 5000 {
		sp := rules.ServicePort{Policies: rules.Policies{InternalLocal: coin(), ExternalLocal: coin()}, NodePort: uint16(r.IntN(2))}
		endpoints := make([]rules.Endpoint, r.IntN(5))
		for i := range endpoints {
			endpoints[i] = rules.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 80),
				Ready: coin(), Serving: coin(), Terminating: coin(), Local: coin(), ZoneHints: hints[r.IntN(4)]}
			if coin() {
				endpoints[i].NodeHints = [][]string{{"node"}, {"other"}}[r.IntN(2)]
			}
		}
		u := rules.SelectEndpoints(&sp, endpoints, &testNode)
		list := rules.ExplainEndpoints(&sp, endpoints, &testNode)
		if len(list) != len(endpoints) {
			t.Fatalf("%d of %d endpoints are judged", len(list), len(endpoints))
		}
		for _, j := range list {
			in := func(list []rules.Endpoint) bool {
				return slices.ContainsFunc(list, func(e rules.Endpoint) bool { return e.Addr == j.Addr })
			}
			cluster, local := !sp.InternalLocal || sp.External(), sp.InternalLocal || sp.ExternalLocal && sp.External()
			if j.Cluster != in(u.Cluster) || j.Local != in(u.Local) {
				t.Fatalf("%+v is judged otherwise than selected: %+v", j, u)
			}
			if (j.WhyNotCluster.Text != "") != (cluster && !j.Cluster) || (j.WhyNotLocal.Text != "") != (local && !j.Local) {
				t.Fatalf("%+v: a reason is missing or too many, under %+v", j, sp)
			}
			met[j.WhyNotCluster.Text], met[j.WhyNotLocal.Text] = true, true
		}
	}
	want := []string{"",
		"meant for node other by its hints; this is node node", "meant for zone b by its hints; this node is in zone a", "not on this node", "not ready",
		"terminating, and serving no more", "terminating: it counts only where no endpoint is ready"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(met))); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

// TestExplainGhosts: of one address the endpoint that is not terminating decides.
func TestExplainGhosts(t *testing.T) {
	at := netip.MustParseAddrPort("10.1.0.1:80")
	old := rules.Endpoint{Addr: at, Serving: true, Terminating: true, Local: true}
	const gone = "terminating: another endpoint has its address now"
	for name, now := range map[string]rules.Endpoint{"": {Addr: at, Ready: true, Local: true}, "not ready": {Addr: at, Local: true}} {
		for _, list := range [][]rules.Endpoint{{old, now}, {now, old}} {
			sp := rules.ServicePort{Policies: rules.Policies{ExternalLocal: true}, NodePort: 30080}
			for _, j := range rules.ExplainEndpoints(&sp, list, &testNode) {
				want := name
				if j.Terminating {
					want = gone
				}
				if j.Cluster != (want == "") || j.Local != (want == "") || j.WhyNotCluster.Text != want || j.WhyNotLocal.Text != want {
					t.Errorf("%+v, want %q", j, want)
				}
			}
		}
	}
}

// TestDifferencesAreDiffs: there are differences where, and only where, a transaction
// would change something.
func TestDifferencesAreDiffs(t *testing.T) {
	w := rulestest.NewWorld(5)
	d := rules.NewDesired(w.Config(), w.Node())
	for step := range 50 {
		before := d.State().Clone()
		tx := d.Update(w.Step())
		after := d.State()
		if list := rules.Differences(before, before); len(list) != 0 {
			t.Fatalf("step %d: a state differs from itself: %v", step, list)
		}
		if list := rules.Differences(before, after); (len(list) > 0) != (tx.Len() > 0) {
			t.Fatalf("step %d: %d differences, %d operations", step, len(list), tx.Len())
		}
	}
}

// TestDifferences names what differs.
func TestDifferences(t *testing.T) {
	sp := with(full(), sources("10.9.0.0/16"))
	want := rules.NewDesired(testConfig, testNode)
	want.Update([]rules.Owned{owned(sp, on("10.244.1.2:8080", "10.244.2.2:8080"))})
	for _, tt := range []struct {
		name   string
		change func(*rules.State)
		want   []string
	}{
		{"table missing", func(s *rules.State) { s.Tables[rules.IPv6] = nil }, []string{"missing ip6 table nftproxy"}},
		{"table off", func(s *rules.State) { s.Tables[rules.IPv4].Dormant = true }, []string{"different ip table nftproxy: it is switched off (flag dormant)"}},
		{"set missing", func(s *rules.State) { delete(s.Tables[rules.IPv6].Sets, rules.SetID{Kind: rules.Single}) }, []string{"missing ip6 map single"}},
		{"foreign set", func(s *rules.State) { s.Tables[rules.IPv6].Foreign = []string{"mine"} }, []string{"extra ip6 set mine"}},
		{"chain extra", func(s *rules.State) { s.Tables[rules.IPv4].Chains["mine"] = rules.Chain{Name: "mine"} }, []string{"extra ip chain mine"}},
		{"chain missing", func(s *rules.State) { delete(s.Tables[rules.IPv4].Chains, "no-endpoints") }, []string{"missing ip chain no-endpoints"}},
		{"rule extra", func(s *rules.State) {
			s.Tables[rules.IPv4].Chains["no-local-endpoints"] = rules.Chain{Name: "no-local-endpoints", Rules: []rules.Rule{{rules.Drop{}}, {rules.Return{}}}}
		}, []string{"different ip chain no-local-endpoints -return"}},
		{"rules in another order", func(s *rules.State) {
			c := s.Tables[rules.IPv4].Chains["no-endpoints"]
			s.Tables[rules.IPv4].Chains["no-endpoints"] = rules.Chain{Name: c.Name, Rules: []rules.Rule{c.Rules[2], c.Rules[1], c.Rules[0]}}
		}, []string{"different ip chain no-endpoints -reject -meta l4proto sctp reject with icmp prot-unreachable -reject with tcp reset" +
			" +reject with tcp reset +meta l4proto sctp reject with icmp prot-unreachable +reject"}},
		{"another hook", func(s *rules.State) {
			s.Tables[rules.IPv4].Chains["output"] = rules.Chain{Name: "output", Hook: &rules.Hook{Number: rules.HookOutput, Priority: 7}}
		}, []string{"different ip table nftproxy: a set or a hook is of another kind, so that all of it must be replaced"}},
		{"range", func(s *rules.State) {
			s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.Sources, Of: "/default/web"}] = nil
		}, []string{"different ip set sources/default/web +10.9.0.0/16"}},
		{"elements", func(s *rules.State) {
			set := s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.NodePorts}]
			set[rules.Key{Protocol: rules.TCP, Port: 30080}] = rules.Value{Goto: "no-endpoints"}
			set[rules.Key{Protocol: rules.UDP, Port: 1}] = rules.Value{Goto: "no-endpoints"}
			delete(s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.NodePortIPs}], rules.Key{Addr: testNode.IPs[0]})
		}, []string{"missing ip element of nodeport-ips: 172.18.0.2",
			"different ip element of service-nodeports -tcp . 30080 : goto no-endpoints +tcp . 30080 : goto service/default/web",
			"extra ip element of service-nodeports: udp . 1 : goto no-endpoints"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have := want.State().Clone()
			tt.change(&have)
			var got []string
			for _, d := range rules.Differences(have, want.State()) {
				line := fmt.Sprintf("%s %s %s", d.Kind, d.Family, d.Object)
				for _, l := range d.Have {
					line += " -" + l
				}
				for _, l := range d.Want {
					line += " +" + l
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSelect: what Services have, taken together with what all tables have, is
// everything, and what one has bears no other's name.
func TestSelect(t *testing.T) {
	for seed := range uint64(5) {
		w := rulestest.NewWorld(seed)
		for range 30 {
			w.Step()
		}
		d := rules.NewDesired(w.Config(), w.Node())
		all := w.All()
		d.Update(all)
		state := d.State()
		left := state.Clone()
		forget(left, state.Common())
		services := map[string]bool{}
		for _, o := range all {
			services[o.Owner.Name] = true
		}
		for name := range services {
			var of []rules.Owned
			for _, o := range all {
				if o.Owner.Name == name {
					of = append(of, o)
				}
			}
			selected := state.Select("test", name, of)
			for other := range services {
				if other != name && strings.Contains(text(t, selected), "/test/"+other) {
					t.Errorf("seed %d: what %s has names %s", seed, name, other)
				}
			}
			forget(left, selected)
		}
		for f, table := range left.Tables {
			for id, set := range table.Sets {
				if len(set) == 0 {
					delete(table.Sets, id)
				}
			}
			if len(table.Chains)+len(table.Sets) > 0 {
				t.Errorf("seed %d: nobody has these of table %d:\n%s", seed, f, text(t, left))
			}
		}
	}
}

// forget takes what one state has from another.
func forget(from, gone rules.State) {
	for f, table := range gone.Tables {
		for name := range table.Chains {
			delete(from.Tables[f].Chains, name)
		}
		for id, set := range table.Sets {
			for k := range set {
				delete(from.Tables[f].Sets[id], k)
			}
		}
	}
}
