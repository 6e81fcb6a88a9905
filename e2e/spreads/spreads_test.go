// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// connections is how many each test counts.
const connections = 10000

func flows(f rules.Family) []netip.AddrPort {
	out := make([]netip.AddrPort, connections)
	for i := range out {
		out[i] = flow(f, i)
	}
	return out
}

// TestShares counts 10,000 connections over endpoints of the weights 1, 2, 3 and 4.
func TestShares(t *testing.T) {
	weights := []uint32{1, 2, 3, 4}
	for _, f := range rules.Families {
		for _, s := range rules.Schedulers() {
			for _, p := range []rules.Protocol{rules.UDP, rules.TCP, rules.SCTP} {
				if p == rules.TCP && s.Counts() {
					continue // as for UDP: the chain is the same
				}
				t.Run(fmt.Sprint(s, " ", p, " ", f), func(t *testing.T) {
					n := newNode(t, "node")
					sp, list := servicePort("web", s, p, f), endpoints(f, weights...)
					n.update(sp, list)
					n.wantSlots(&sp, list, weights)
					sources := flows(f)
					if s == rules.ClientHash {
						for i := range sources {
							sources[i] = client(f, i)
						}
					}
					got := n.connect(&sp, sources)
					n.wantShares(&sp, list, weights, got)
				})
			}
		}
	}
}

// wantSlots reads the slots back from the kernel.
func (n *node) wantSlots(sp *rules.ServicePort, list []rules.Endpoint, weights []uint32) {
	n.t.Helper()
	have, err := n.kernel.Read(rules.DefaultTable)
	n.must(err)
	if left := rules.Diff(have, n.desired.State()); left.Len() != 0 {
		n.t.Errorf("the kernel holds something else: %d operations", left.Len())
	}
	count, total, sum := map[netip.AddrPort]int{}, 0, uint32(0)
	for id, set := range have.Tables[sp.Family].Sets {
		if id.Kind == rules.Endpoints || id.Kind == rules.Backends {
			for _, v := range set {
				count[v.To]++
				total++
			}
		}
	}
	for _, w := range weights {
		sum += w
	}
	for i, w := range weights {
		if off := float64(count[list[i].Addr]) - float64(total)*float64(w)/float64(sum); math.Abs(off) >= 1 {
			n.t.Errorf("%s has %d of %d slots, want %d parts of %d", list[i].Addr, count[list[i].Addr], total, w, sum)
		}
	}
}

// wantShares checks shares: exact where the kernel counts, else as near as chance makes them.
func (n *node) wantShares(sp *rules.ServicePort, list []rules.Endpoint, weights []uint32, got []netip.AddrPort) {
	n.t.Helper()
	count, sum := map[netip.AddrPort]int{}, uint32(0)
	for _, a := range got {
		count[a]++
	}
	for _, w := range weights {
		sum += w
	}
	for i, w := range weights {
		share := float64(w) / float64(sum)
		want, slack := share*float64(len(got)), 5*math.Sqrt(share*(1-share)*float64(len(got))) // five standard deviations
		switch {
		case sp.Scheduler == rules.RoundRobin:
			slack = 0
		case sp.Scheduler.Counts():
			slack = float64(len(got)) / 64 // a slot of 64
		case sp.Scheduler.Tables():
			slack += float64(len(got)) / 1021
		}
		if off := math.Abs(float64(count[list[i].Addr]) - want); off > slack {
			n.t.Errorf("%s got %d connections, want %.0f +- %.0f", list[i].Addr, count[list[i].Addr], want, slack)
		}
	}
}

// TestSmooth: weighted round robin follows its order through a restart that adopts the rules, and through a change of
// nothing but another service.
func TestSmooth(t *testing.T) {
	n := newNode(t, "node")
	sp, list := servicePort("web", rules.RoundRobin, rules.UDP, rules.IPv4), endpoints(rules.IPv4, 5, 3, 1)
	n.update(sp, list)
	got := n.connect(&sp, flows(rules.IPv4)[:100])
	// A new process reads what is there, and finds nothing to do.
	var again *kernel.Kernel
	n.must(n.ns.Do(func() (err error) {
		again, err = kernel.Open()
		return err
	}))
	defer again.Close()
	have, err := again.Read(rules.DefaultTable)
	n.must(err)
	d := rules.NewDesired(rules.Config{}, n.node())
	d.Update([]rules.Owned{{Owner: rules.Owner{ServicePortName: sp.Name}, Objects: rules.Build(sp, list, rules.Config{}.WithDefaults(), n.node())}})
	if tx := rules.Diff(have, d.State()); tx.Len() != 0 {
		t.Fatalf("adopting takes %d operations", tx.Len())
	}
	other := servicePort("other", rules.RoundRobin, rules.UDP, rules.IPv4)
	other.Port = 81
	n.update(other, endpoints(rules.IPv4, 1, 1))
	got = append(got, n.connect(&sp, flows(rules.IPv4)[100:2000])...)
	for i := range got {
		if i >= 9 && got[i] != got[i-9] {
			t.Fatalf("connection %d goes to %s, nine before that went to %s", i, got[i], got[i-9])
		}
	}
	twice := 0
	for i := 1; i < 10; i++ {
		if got[i] == got[i-1] {
			twice++
		}
	}
	if twice != 1 { // five of nine: once in a round it cannot be avoided
		t.Errorf("%d times twice in a row: %v", twice, got[:10])
	}
}

// TestAlikeOnAllNodes: two nodes of different names send the same flows to the same endpoints.
func TestAlikeOnAllNodes(t *testing.T) {
	for _, f := range rules.Families {
		sp, list := servicePort("web", rules.Maglev, rules.UDP, f), endpoints(f, slices.Repeat([]uint32{1}, 20)...)
		var before []netip.AddrPort
		for _, name := range []string{"one", "two"} {
			n := newNode(t, name)
			slices.Reverse(list)
			n.update(sp, list)
			got := n.connect(&sp, flows(f))
			for i := range before {
				if got[i] != before[i] {
					t.Fatalf("%s: the flow from %s goes to %s and to %s", f, flow(f, i), before[i], got[i])
				}
			}
			before = got
		}
	}
}

// moved returns how many of the flows to endpoints that stay went elsewhere when one of 100 left: in parts of all.
func moved(t testing.TB, s rules.Scheduler, size uint16) float64 {
	sp, list := servicePort("web", s, rules.UDP, rules.IPv4), endpoints(rules.IPv4, slices.Repeat([]uint32{1}, 100)...)
	sp.TableSize = size
	n := newNode(t, "node")
	n.update(sp, list)
	before := n.connect(&sp, flows(rules.IPv4))
	n = newNode(t, "again")
	n.update(sp, list[1:])
	after := n.connect(&sp, flows(rules.IPv4))
	moved := 0
	for i := range before {
		if before[i] != list[0].Addr && before[i] != after[i] {
			moved++
		}
	}
	return float64(moved) / connections
}

// TestMoved: with the size that the documents name for 100 endpoints, at most one flow in a hundred moves.
func TestMoved(t *testing.T) {
	if part := moved(t, rules.Maglev, 32749); part > 0.01 {
		t.Errorf("%.2f %% of the flows move", 100*part)
	}
}

// TestAffinityShares: session affinity above each scheduler with weights: 10,000 clients get the shares that connections get without it, and each
// is with its endpoint again from another port, whatever the scheduler would choose for that, and though the weights have changed.
func TestAffinityShares(t *testing.T) {
	for _, f := range rules.Families {
		for _, s := range rules.Schedulers() {
			t.Run(s.String()+" "+f.String(), func(t *testing.T) {
				n := newNode(t, "node")
				sp, weights := servicePort("web", s, rules.UDP, f), []uint32{1, 2, 3, 4}
				sp.Affinity = 10800
				list := endpoints(f, weights...)
				n.update(sp, list)
				sources := make([]netip.AddrPort, connections)
				for i := range sources {
					sources[i] = client(f, i)
				}
				first := n.connect(&sp, sources)
				n.wantShares(&sp, list, weights, first)
				n.update(sp, endpoints(f, 4, 3, 2, 1))
				for i := range sources {
					sources[i] = netip.AddrPortFrom(sources[i].Addr(), sources[i].Port()+1)
				}
				for i, at := range n.connect(&sp, sources) {
					if at != first[i] {
						t.Fatalf("the client %s goes to %s, was with %s", sources[i], at, first[i])
					}
				}
			})
		}
	}
}
