// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/internal/golden"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// weighted gives endpoints weights; a negative one is none.
func weighted(endpoints []rules.Endpoint, weights ...int) []rules.Endpoint {
	for i, w := range weights {
		switch {
		case w == 0:
			endpoints[i].Idle = true
		case w > 0:
			endpoints[i].Weight = uint32(w)
		}
	}
	return endpoints
}

// TestWeightsText shows the rules of weights.
func TestWeightsText(t *testing.T) {
	three := []string{"10.244.2.2:8080", "10.244.2.3:8080", "10.244.2.4:8080"}
	build := func(s rules.Scheduler, nodePort uint16, weights ...int) []rules.Owned {
		return []rules.Owned{owned(with(full(), func(sp *rules.ServicePort) {
			sp.Scheduler, sp.NodePort, sp.TableSize, sp.ExternalIPs = s, nodePort, 7, nil
		}), weighted(on(three...), weights...))}
	}
	for name, build := range map[string][]rules.Owned{
		"round-robin": build(rules.RoundRobin, 0, 3, 2, 1),
		"random":      build(rules.Random, 0, 3, 2, 1),
		"client-hash": build(rules.ClientHash, 30080, 2, 0, 1),
		"maglev":      build(rules.Maglev, 30080, 2, -1, 1),
		"all-zero":    build(rules.RoundRobin, 0, 0, 0, 0),
		"denied": {owned(with(full(), func(sp *rules.ServicePort) { sources("10.9.0.0/16")(sp); sp.DenySources = true }),
			on("10.244.2.2:8080"))},
	} {
		t.Run(name, func(t *testing.T) {
			d := rules.NewDesired(testConfig, testNode)
			d.Update(build)
			golden.Check(t, golden.Named(t, ".nft"), text(t, d.State()))
		})
	}
}

// TestSharesOfConnections counts where connections go: by weights, and by where endpoints are, for each scheduler, policy and frontend.
func TestSharesOfConnections(t *testing.T) {
	addrs := []string{"10.244.1.2:1", "10.244.1.3:1", "10.244.2.4:1", "10.244.2.5:1"}
	for _, tt := range []struct {
		name    string
		change  func(*rules.ServicePort)
		weights []int
		zones   string // of each endpoint, by a letter
		cluster string // shares under the policy Cluster
		local   string // shares under the policy Local
	}{
		{name: "weights", weights: []int{1, 2, 3, 4}, cluster: "1:2:3:4", local: "1:2:0:0"},
		{name: "weight zero", weights: []int{0, 2, -1, 0}, cluster: "0:2:1:0", local: "0:1:0:0"},
		{name: "all here have weight zero", weights: []int{0, 0, 1, 1}, cluster: "0:0:1:1", local: "1:1:0:0"},
		{name: "all have weight zero", weights: []int{0, 0, 0, 0}, cluster: "1:1:1:1", local: "1:1:0:0"},
		{name: "here", change: func(sp *rules.ServicePort) { sp.LocalWeight = 4 }, cluster: "4:4:1:1", local: "1:1:0:0"},
		{name: "zone", change: func(sp *rules.ServicePort) { sp.ZoneWeight = 2 }, zones: "abab", cluster: "2:1:2:1", local: "2:1:0:0"},
		{name: "here and zone", change: func(sp *rules.ServicePort) { sp.LocalWeight, sp.ZoneWeight = 4, 2 }, zones: "aaab", weights: []int{-1, -1, -1, 3},
			cluster: "4:4:2:3", local: "1:1:0:0"},
	} {
		for _, scheduler := range rules.Schedulers() {
			sp := full()
			if tt.change != nil {
				tt.change(&sp)
			}
			sp.Scheduler, sp.ExternalLocal = scheduler, true
			endpoints := weighted(on(addrs...), tt.weights...)
			for i, zone := range tt.zones {
				endpoints[i].Zone = string(zone)
			}
			for _, want := range []struct{ to, from, shares string }{
				{toClusterIP, fromPod, tt.cluster}, {toLB, fromOutside, tt.local}, {toNodePort, fromOutside, tt.local}, {toExternal, fromOutside, tt.local},
			} {
				if scheduler.Alike() && (sp.LocalWeight > 1 || sp.ZoneWeight > 1) {
					want.shares = map[bool]string{true: "1:1:1:1", false: "1:1:0:0"}[want.to == toClusterIP]
					if tt.weights != nil && want.to == toClusterIP {
						want.shares = "1:1:1:3"
					}
				}
				checkShares(t, fmt.Sprintf("%s, %s to %s", tt.name, scheduler, want.to), sp, endpoints, want.from, want.to, addrs, want.shares)
			}
		}
	}
}

// checkShares looks at each choice that the kernel may make.
func checkShares(t *testing.T, what string, sp rules.ServicePort, endpoints []rules.Endpoint, from, to string, addrs []string, want string) {
	t.Helper()
	choice, choices := uint32(0), uint32(1)
	tr := trace(sp, endpoints)
	tr.Choose = func(mod uint32) uint32 {
		choices = max(choices, mod)
		return choice
	}
	hits := map[string]int{}
	for ; choice < choices; choice++ {
		got, _, _ := strings.Cut(send(t, tr, from, to), " ")
		hits[got]++
	}
	sum, total := 0, 0
	for _, s := range strings.Split(want, ":") {
		sum += int(s[0] - '0')
	}
	for _, a := range addrs {
		total += hits[a]
	}
	for i, s := range strings.Split(want, ":") {
		ideal := float64(s[0]-'0') * float64(total) / float64(sum)
		slack := 1.0
		if !sp.Scheduler.Tables() && !sp.Scheduler.Counts() {
			slack = 1e-9
		}
		if n := float64(hits[addrs[i]]); n < ideal-slack || n > ideal+slack {
			t.Errorf("%s: %s gets %v of %d, want %.1f: %v", what, addrs[i], n, total, ideal, hits)
		}
	}
}

// TestSlices of one endpoint: a weight that somebody gave counts more than none, whichever comes first.
func TestWeightsOfOneEndpoint(t *testing.T) {
	list := on("10.244.2.2:1", "10.244.2.3:1", "10.244.2.2:1", "10.244.2.3:1", "10.244.2.3:1")
	list[0].Weight, list[3].Weight, list[4].Weight = 5, 2, 7
	list[1].Idle = true
	for range 20 {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		sp := full()
		sp.Scheduler = rules.Maglev
		u := rules.SelectEndpoints(&sp, list, &testNode)
		if len(u.Cluster) != 2 || u.Cluster[0].Weight != 5 || u.Cluster[1].Weight != 7 {
			t.Fatalf("selected %+v", u.Cluster)
		}
	}
}

// TestMaglevIsAlike: the table is the same on all nodes, in whatever order they hear of the endpoints, and whatever is near.
func TestMaglevIsAlike(t *testing.T) {
	addrs := []string{"10.244.1.2:1", "10.244.1.3:1", "10.244.2.4:1", "10.244.2.5:1"}
	var first []rules.Element
	for i := range 10 {
		node := testNode
		node.Name, node.Zone = fmt.Sprint("node-", i), string(rune('a'+i%2))
		list := weighted(on(addrs...), 1, 2, 3, 4)
		for j := range list {
			list[j].Local, list[j].Zone = (i+j)%2 == 0, "a"
		}
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		sp := full()
		sp.Scheduler, sp.TableSize, sp.LocalWeight, sp.ZoneWeight = rules.Maglev, 251, 9, 9
		var got []rules.Element
		for _, set := range rules.Build(sp, list, testConfig, node).Sets {
			if set.Set.Kind == rules.Endpoints || set.Set.Kind == rules.Backends {
				got = append(got, set.Elements...)
			}
		}
		if first == nil {
			first = got
		}
		if len(got) == 0 || !slices.Equal(got, first) {
			t.Fatalf("%s has another table", node.Name)
		}
	}
}

// TestAffinityWithWeights: a client whose endpoint gets the weight 0 goes to another one.
func TestAffinityWithWeights(t *testing.T) {
	sp := full()
	sp.Affinity = 60
	d := rules.NewDesired(testConfig, testNode)
	update := func(weights ...int) *tracer.Tracer {
		d.Update([]rules.Owned{owned(sp, weighted(on("10.244.2.2:1", "10.244.2.3:1"), weights...))})
		return &tracer.Tracer{State: d.State()}
	}
	tr := update(-1, -1)
	was := send(t, tr, fromPod, toClusterIP)
	clients := tr.State.Tables[rules.IPv4].Sets
	weights := []int{0, 1}
	if was == "10.244.2.3:1" {
		weights = []int{1, 0}
	}
	after := update(weights...)
	for id, set := range clients {
		if id.Kind == rules.Affinity {
			after.State.Tables[rules.IPv4].Sets[id] = set
		}
	}
	if now := send(t, after, fromPod, toClusterIP); now == was {
		t.Errorf("the client stays with %s, which has the weight 0", was)
	}
}

// TestSettling: endpoints that settle get no connections while another one can, whatever weights say; else all of them do.
func TestSettling(t *testing.T) {
	addrs := []string{"10.244.2.2:1", "10.244.2.3:1", "10.244.2.4:1"}
	for _, tt := range []struct{ states, want string }{ // of the endpoints: ready, settling, idle, both, or not ready
		{"r r r", "0 1 2"},
		{"r s r", "0 2"},
		{"s s r", "2"},
		{"s s s", "0 1 2"},
		{"s i s", "0 2"},
		{"r i s", "0"},
		{"b i b", "0 1 2"},
		{"b b b", "0 1 2"},
		{"s n n", "0"},
		{"n s i", "1"},
	} {
		list := on(addrs...)
		for i, s := range strings.Fields(tt.states) {
			list[i].Settling, list[i].Idle = s == "s" || s == "b", s == "i" || s == "b"
			list[i].Ready, list[i].Serving = s != "n", s != "n"
		}
		sp := full()
		sp.Failover, sp.Scheduler = true, rules.Maglev // in the order of the addresses
		u := rules.SelectEndpoints(&sp, list, &testNode)
		var got []string
		for _, e := range u.Cluster {
			got = append(got, fmt.Sprint(slices.Index(addrs, e.Addr.String())))
		}
		if strings.Join(got, " ") != tt.want || len(u.Watched) != len(u.Cluster) {
			t.Errorf("%s: %v get connections, want %s; watched: %v", tt.states, got, tt.want, u.Watched)
		}
		for i, e := range rules.ExplainEndpoints(&sp, list, &testNode) {
			waits := list[i].Settling && !list[i].Idle && !e.Cluster
			if (e.WhyNotCluster.Code == reason.Settling) != waits {
				t.Errorf("%s: of %s it says %v", tt.states, e.Addr, e.WhyNotCluster)
			}
		}
	}
}
