// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nftproxy/nftproxy/rules"
)

func TestSelectEndpoints(t *testing.T) {
	const (
		ready = 1 << iota // in the order of the fields
		serving
		terminating
		local
	)
	ep := func(addr string, flags int) rules.Endpoint {
		return rules.Endpoint{Addr: netip.MustParseAddrPort(addr), Ready: flags&ready != 0,
			Serving: flags&serving != 0, Terminating: flags&terminating != 0, Local: flags&local != 0}
	}
	a, b := "10.244.1.2:80", "10.244.1.3:80"
	for _, tt := range []struct {
		name string
		in   []rules.Endpoint
		want []rules.Endpoint
	}{
		{"none", nil, nil},
		{"sorted by address", []rules.Endpoint{ep(b, ready), ep(a, ready)}, []rules.Endpoint{ep(a, ready), ep(b, ready)}},
		{"one address in two slices counts once", []rules.Endpoint{ep(a, ready), ep(b, ready), ep(a, ready)}, []rules.Endpoint{ep(a, ready), ep(b, ready)}},
		{"of two that are one, one says that it is local", []rules.Endpoint{ep(a, ready), ep(a, ready|local)}, []rules.Endpoint{ep(a, ready|local)}},
		{"not ready", []rules.Endpoint{ep(a, 0), ep(b, ready)}, []rules.Endpoint{ep(b, ready)}},
		{"terminating ones only where none is ready", []rules.Endpoint{ep(a, serving|terminating), ep(b, ready)}, []rules.Endpoint{ep(b, ready)}},
		{"none ready: serving and terminating", []rules.Endpoint{ep(a, serving|terminating), ep(b, 0)}, []rules.Endpoint{ep(a, serving|terminating)}},
		{"terminating but not serving", []rules.Endpoint{ep(a, terminating)}, nil},
		{"serving but neither ready nor terminating", []rules.Endpoint{ep(a, serving)}, nil},
		{"terminating, its address another's that is ready", []rules.Endpoint{ep(a, serving|terminating), ep(a, ready)}, []rules.Endpoint{ep(a, ready)}},
		{"terminating, its address another's that is not ready", []rules.Endpoint{ep(a, serving|terminating), ep(a, 0)}, nil},
		{"terminating and ready, its address another's that is not ready", []rules.Endpoint{ep(a, ready|terminating|local), ep(a, 0)}, nil},
		{"so that only another one is left", []rules.Endpoint{ep(a, 0), ep(a, serving|terminating), ep(b, serving|terminating)}, []rules.Endpoint{ep(b, serving|terminating)}},
		{"where the terminating one was does not matter", []rules.Endpoint{ep(a, serving|terminating|local), ep(a, ready)}, []rules.Endpoint{ep(a, ready)}},
		{"two that are terminating", []rules.Endpoint{ep(a, serving|terminating), ep(a, terminating)}, []rules.Endpoint{ep(a, serving|terminating)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := rules.SelectEndpoints(&rules.ServicePort{}, tt.in, &rules.Node{}).Cluster
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTopology checks which endpoints a node in zone a prefers, by their hints.
func TestTopology(t *testing.T) {
	hinted := func(addr string, nodes, zones string) rules.Endpoint {
		return rules.Endpoint{Addr: netip.MustParseAddrPort(addr), Ready: true, NodeHints: strings.Fields(nodes), ZoneHints: strings.Fields(zones)}
	}
	const a, b, c = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"
	for _, tt := range []struct {
		name string
		in   []rules.Endpoint
		want []string
	}{
		{"no hints", []rules.Endpoint{hinted(a, "", ""), hinted(b, "", "")}, []string{a, b}},
		{"zone", []rules.Endpoint{hinted(a, "", "a"), hinted(b, "", "b"), hinted(c, "", "b a")}, []string{a, c}},
		{"one without a hint: none counts", []rules.Endpoint{hinted(a, "", "a"), hinted(b, "", "b"), hinted(c, "", "")}, []string{a, b, c}},
		{"none for this zone: none counts", []rules.Endpoint{hinted(a, "", "b"), hinted(b, "", "c")}, []string{a, b}},
		{"node before zone", []rules.Endpoint{hinted(a, "other", "a"), hinted(b, "node", "a")}, []string{b}},
		{"no hint for this node: zone", []rules.Endpoint{hinted(a, "other", "a"), hinted(b, "another", "b")}, []string{a}},
		{"one without a node hint: zone", []rules.Endpoint{hinted(a, "node", "b"), hinted(b, "", "a")}, []string{b}},
		{"hints of endpoints that are not ready do not matter", []rules.Endpoint{hinted(a, "", "a"),
			{Addr: netip.MustParseAddrPort(b)}}, []string{a}},
		{"terminating ones are not asked for hints", []rules.Endpoint{
			{Addr: netip.MustParseAddrPort(b), Serving: true, Terminating: true, ZoneHints: []string{"b"}}}, []string{b}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, e := range rules.SelectEndpoints(&rules.ServicePort{}, tt.in, &testNode).Cluster {
				got = append(got, e.Addr.String())
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestTurns checks the order of endpoints: another one on each node, so that not all nodes give
// the next connection to the same endpoint; the same one every time on one node; and a change
// of one endpoint leaves the order of the others, as that of the addresses does.
func TestTurns(t *testing.T) {
	const count, nodes = 50, 1000
	endpoints := make([]rules.Endpoint, count)
	for i := range endpoints {
		endpoints[i] = rules.Endpoint{Ready: true, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i % 5), byte(i)}), 8080)}
	}
	order := func(node string, scheduler rules.Scheduler, endpoints []rules.Endpoint) []netip.AddrPort {
		sp := servicePort("", rules.TCP, "10.96.0.10:80")
		sp.Scheduler = scheduler
		var out []netip.AddrPort
		for _, e := range rules.SelectEndpoints(&sp, endpoints, &rules.Node{Name: node}).Cluster {
			out = append(out, e.Addr)
		}
		return out
	}
	first := map[netip.AddrPort]int{}
	for i := range nodes {
		list := order(fmt.Sprintf("node-%d", i), rules.RoundRobin, endpoints)
		first[list[0]]++
		if slices.SortFunc(list, netip.AddrPort.Compare); !slices.Equal(list, order("", rules.RoundRobin, endpoints)) {
			t.Fatalf("node-%d does not have all endpoints once: %v", i, list)
		}
	}
	for _, e := range endpoints { // 20 is to be expected
		if n := first[e.Addr]; n < 4 || n > 44 {
			t.Errorf("%s is the first on %d of %d nodes, want about %d", e.Addr, n, nodes, nodes/count)
		}
	}
	all := order("node-1", rules.RoundRobin, endpoints)
	for i := range endpoints {
		less := slices.Delete(slices.Clone(endpoints), i, i+1)
		slices.Reverse(less) // slices come in any order
		want := slices.DeleteFunc(slices.Clone(all), func(a netip.AddrPort) bool { return a == endpoints[i].Addr })
		if got := order("node-1", rules.RoundRobin, less); !slices.Equal(got, want) {
			t.Errorf("without %s: %v, want %v", endpoints[i].Addr, got, want)
		}
	}
	if a, b := order("node-1", rules.SourceHash, endpoints), order("node-2", rules.SourceHash, endpoints); !slices.Equal(a, b) {
		t.Errorf("a client's hash leads to different endpoints on two nodes: %v, %v", a, b)
	}
}
