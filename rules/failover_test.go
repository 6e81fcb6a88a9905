// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// failoverPort is a service port with failover and some endpoints, the first so many of which are ejected.
func failoverPort(scheduler Scheduler, affinity uint32, endpoints, ejected int, trial bool) (ServicePort, []Endpoint) {
	sp := ServicePort{Name: ServicePortName{"default", "web", "http"}, Protocol: TCP, ClusterIP: netip.MustParseAddr("10.96.0.20"), Port: 80,
		Policies: Policies{Failover: true, Scheduler: scheduler, Affinity: affinity}}
	var list []Endpoint
	for i := range endpoints {
		list = append(list, Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 1, byte(i + 1)}), 8080), Ready: true, Serving: true, Local: i == 0})
	}
	for i := range ejected {
		sp.Ejection.Endpoints = append(sp.Ejection.Endpoints, Ejected{Addr: list[i].Addr, Trial: trial})
	}
	return sp, list
}

// TestFailoverRules: the kernel notes who answers while a service port with failover has several endpoints, and only then.
func TestFailoverRules(t *testing.T) {
	d := NewDesired(Config{}, Node{})
	two, list := failoverPort(RoundRobin, 0, 2, 0, false)
	owner := Owner{ServicePortName: two.Name}
	empty := d.State()
	for i, want := range []bool{false, true, false, true, false} {
		sp, endpoints := two, list
		if !want {
			endpoints = list[:1]
		}
		if i == 4 {
			sp.Failover = false
			endpoints = list
		}
		before := d.State()
		tx := d.Update([]Owned{{owner, Build(sp, endpoints, Config{}, Node{})}})
		after, err := before.Apply(tx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := Diff(after, d.State()); diff.Len() > 0 {
			t.Errorf("step %d: an update leaves %d differences", i, diff.Len())
		}
		table := d.State().Tables[IPv4]
		_, chain := table.Chains[ChainFailoverIn.Chain()]
		_, set := table.Sets[SetID{Kind: Unanswered}]
		if chain != want || set != want || d.Failover(IPv4) != want || d.Failover(IPv6) {
			t.Errorf("step %d: chains: %t, sets: %t, want %t", i, chain, set, want)
		}
		counts, counted := d.Counts(IPv4), table.Counts()
		if counts != counted {
			t.Errorf("step %d: %+v objects, counted %+v", i, counts, counted)
		}
	}
	d.Update([]Owned{{owner, Objects{}}})
	if diff := Diff(d.State(), empty); diff.Len() > 0 {
		t.Errorf("%d differences stay", diff.Len())
	}
}

// TestEjected: an ejected endpoint gets no new connections, but for one if it is tried; the table tells which are; and
// never more are left out than may be.
func TestEjected(t *testing.T) {
	for _, scheduler := range Schedulers() {
		for _, affinity := range []uint32{0, 60} {
			for endpoints := 1; endpoints <= 4; endpoints++ {
				for ejected := range endpoints + 1 {
					for _, trial := range []bool{false, true} {
						name := fmt.Sprintf("%s, affinity %d, %d of %d, trial %t", scheduler, affinity, ejected, endpoints, trial)
						sp, list := failoverPort(scheduler, affinity, endpoints, ejected, trial)
						out := min(ejected, MostEjected(endpoints, 0))
						if out >= endpoints || 2*out > endpoints {
							t.Fatalf("%s: %d are left out", name, out)
						}
						d := NewDesired(Config{}, Node{})
						d.Update([]Owned{{Owner{ServicePortName: sp.Name}, Build(sp, list, Config{}, Node{})}})
						table := d.State().Tables[IPv4]
						want := slices.Clone(sp.Ejection.Endpoints[:out])
						if got := table.EjectedOf(sp.Name); !slices.Equal(got, want) {
							t.Errorf("%s: the table has %v as ejected, want %v", name, got, want)
						}
						once := 0
						for _, c := range table.Chains {
							for _, r := range c.Rules {
								if slices.Contains(r, Statement(Once{})) {
									once++
								}
							}
						}
						if trials := map[bool]int{true: out}[trial]; once != trials {
							t.Errorf("%s: %d rules for one connection, want %d", name, once, trials)
						}
						u := SelectEndpoints(&sp, list, &Node{})
						if len(u.Cluster) != endpoints-out || len(u.ClusterEjected) != out {
							t.Errorf("%s: %d endpoints are used, %d are ejected", name, len(u.Cluster), len(u.ClusterEjected))
						}
						if _, found := table.Sets[SetID{Kind: Hairpin}][addrKey(list[0].Addr.Addr())]; !found {
							t.Errorf("%s: an endpoint on this node may not connect to itself", name)
						}
						for i, e := range ExplainEndpoints(&sp, list, &Node{}) {
							if e.Cluster == (i < out) || (e.WhyNotCluster.Code != 0) == e.Cluster {
								t.Errorf("%s: endpoint %d: used %t, as %q", name, i, e.Cluster, e.WhyNotCluster.Text)
							}
						}
					}
				}
			}
		}
	}
}

// TestWatched: with failover all are watched that would get connections if everybody answered.
func TestWatched(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		list := make([]Endpoint, r.IntN(5))
		for i := range list {
			list[i] = Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), Ready: r.IntN(4) > 0,
				Serving: r.IntN(2) > 0, Terminating: r.IntN(3) == 0, Local: r.IntN(2) > 0, Weighting: Weighting{Idle: r.IntN(3) == 0, Settling: r.IntN(3) == 0}}
		}
		sp := ServicePort{ClusterIP: netip.MustParseAddr("10.96.0.1"), NodePort: uint16(r.IntN(2)) * 30000,
			Policies: Policies{InternalLocal: r.IntN(2) > 0, ExternalLocal: r.IntN(2) > 0, Failover: r.IntN(5) > 0}}
		var want []netip.AddrPort
		all := SelectEndpoints(&sp, list, &Node{})
		for _, e := range slices.Concat(all.Cluster, all.Local) {
			want = append(want, e.Addr)
		}
		slices.SortFunc(want, netip.AddrPort.Compare)
		if want = slices.Compact(want); !sp.Failover {
			want = nil
		}
		for _, e := range list {
			if r.IntN(2) > 0 {
				sp.Ejection.Endpoints = append(sp.Ejection.Endpoints, Ejected{Addr: e.Addr})
			}
		}
		sp.Ejection.Share = 100
		if got := SelectEndpoints(&sp, list, &Node{}).Watched; !slices.Equal(got, want) {
			t.Fatalf("%+v of %+v: %v are watched, want %v", sp, list, got, want)
		}
	}
}

// TestEjectedElements: ejecting an endpoint changes elements and one chain, no more.
func TestEjectedElements(t *testing.T) {
	sp, list := failoverPort(RoundRobin, 0, 4, 0, false)
	d := NewDesired(Config{}, Node{})
	owner := Owner{ServicePortName: sp.Name}
	d.Update([]Owned{{owner, Build(sp, list, Config{}, Node{})}})
	sp.Ejection.Endpoints = []Ejected{{Addr: list[1].Addr}}
	tx := d.Update([]Owned{{owner, Build(sp, list, Config{}, Node{})}})
	for _, op := range tx.Ops() {
		switch {
		case op.Kind == ReplaceChain && op.Chain.Name == "service/default/web/http":
		case op.onElements() && (op.Set.Kind == Endpoints || op.Set.Kind == Silent):
		case op.Kind == AddSet && op.Set.Kind == Silent:
		default:
			t.Errorf("%s", op.Object("nftproxy"))
		}
	}
}
