// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestDesiredModel changes service ports at random. After each step the state that
// the transactions built must be what a fresh start builds, and every prefix of a
// transaction must be accepted, for long ones are cut.
func TestDesiredModel(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := rulestest.NewWorld(seed)
			d := rules.NewDesired(w.Config(), w.Node())
			kernel, err := rules.State{}.Apply(rules.Diff(rules.State{}, d.State()))
			if err != nil {
				t.Fatal(err)
			}
			for range 40 {
				tx := d.Update(w.Step())
				kernel = applyCut(t, kernel, tx)
				fresh := rules.NewDesired(w.Config(), w.Node())
				fresh.Update(w.All())
				if got, want := text(t, kernel), text(t, fresh.State()); got != want {
					t.Fatalf("after\n%+v\ngot\n%s\nwant\n%s", tx.Ops(), got, want)
				}
				if got := text(t, d.State()); got != text(t, kernel) {
					t.Fatalf("the desired state is not what the transactions built:\n%s", got)
				}
				for _, f := range rules.Families {
					if got, want := d.Counts(f), kernel.Tables[f].Counts(); got != want || got.Chains != len(kernel.Tables[f].Chains) {
						t.Fatalf("counted %+v objects of family %s, the kernel has %+v", got, f, want)
					}
				}
			}
		})
	}
}

// applyCut applies the operations one by one.
func applyCut(t *testing.T, s rules.State, tx rules.Tx) rules.State {
	t.Helper()
	for _, op := range tx.Ops() {
		one := rules.Tx{Name: tx.Name}
		one.Add(op)
		var err error
		if s, err = s.Apply(one); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestDiffModel goes from one random state to another in one transaction.
func TestDiffModel(t *testing.T) {
	random := func(seed uint64) *rules.Desired {
		w := rulestest.NewWorld(seed)
		for range 20 {
			w.Step()
		}
		d := rules.NewDesired(w.Config(), w.Node())
		d.Update(w.All())
		return d
	}
	for seed := range uint64(50) {
		d := random(seed + 1)
		have, want := random(seed).State(), d.State()
		for _, tx := range []rules.Tx{rules.Diff(have, want), compare(t, d, have, nil)} {
			got, err := have.Apply(tx)
			if err != nil {
				t.Fatal(err)
			}
			if text(t, got) != text(t, want) {
				t.Fatalf("got\n%s\nwant\n%s", text(t, got), text(t, want))
			}
		}
		if tx := compare(t, d, want, nil); tx.Len() != 0 {
			t.Fatalf("a comparison of a state with itself: %+v", tx.Ops())
		}
		if tx := rules.Diff(want, want); tx.Len() != 0 {
			t.Fatalf("difference of a state to itself: %+v", tx.Ops())
		}
	}
}

// TestDiffRepairs goes back from what others may have done to the tables.
func TestDiffRepairs(t *testing.T) {
	d := rules.NewDesired(testConfig, testNode)
	d.Update([]rules.Owned{owned(servicePort("", rules.TCP, "10.96.0.10:80"), ready("10.0.0.1:80", "10.0.0.2:80")),
		owned(servicePort("other", rules.TCP, "10.96.0.11:80"), ready("10.0.0.3:80"))})
	want := d.State
	single := rules.SetID{Kind: rules.Single}
	for name, tamper := range map[string]func(*rules.Table){
		"rule added": func(t *rules.Table) {
			c := t.Chains["services"]
			c.Rules = append([]rules.Rule{{rules.Return{}}}, c.Rules...)
			t.Chains["services"] = c
		},
		"chain gone":      func(t *rules.Table) { delete(t.Chains, "prerouting") },
		"chain added":     func(t *rules.Table) { t.Chains["theirs"] = rules.Chain{Name: "theirs"} },
		"elements gone":   func(t *rules.Table) { clear(t.Sets[rules.SetID{Kind: rules.ServiceIPs}]) },
		"set gone":        func(t *rules.Table) { delete(t.Sets, rules.SetID{Kind: rules.ClusterIPs}) },
		"set added":       func(t *rules.Table) { t.Foreign = []string{"theirs"} },
		"set of our name": func(t *rules.Table) { delete(t.Sets, single); t.Foreign = []string{single.Name()} },
		"object added":    func(t *rules.Table) { t.Objects = []rules.ForeignObject{{Type: 1, Name: "theirs"}} },
		"table's comment": func(t *rules.Table) { t.Odd = []rules.Oddity{{What: "a comment"}} },
		"chain's comment": func(t *rules.Table) { t.Odd = []rules.Oddity{{Chain: "services", What: "a comment"}} },
		"set's comment":   func(t *rules.Table) { t.Odd = []rules.Oddity{{Set: single.Name(), What: "a comment"}} },
		"element's comment": func(t *rules.Table) {
			k := rules.Key{Addr: netip.MustParseAddr("10.96.0.10")}
			t.Sets[rules.SetID{Kind: rules.ClusterIPs}][k] = rules.Value{Goto: rules.OddGoto("comment", "")}
		},
		"counted":    func(t *rules.Table) { t.Counted = true },
		"other hook": func(t *rules.Table) { t.Chains["output"] = rules.Chain{Name: "output"} },
		"unknown rule": func(t *rules.Table) {
			t.Chains["output"] = rules.Chain{Name: "output", Hook: t.Chains["output"].Hook, Rules: []rules.Rule{{rules.Unknown{What: "Counter"}}}}
		},
		"switched off": func(t *rules.Table) { t.Dormant = true },
		"an unused shard": func(t *rules.Table) {
			t.Sets[rules.SetID{Kind: rules.Endpoints, Shard: 1}] = map[rules.Key]rules.Value{{ID: 1}: {}}
		},
		"a changed shared": func(t *rules.Table) {
			delete(t.Sets[rules.SetID{Kind: rules.Protocols}], rules.Key{Protocol: rules.SCTP})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for how, tx := range map[string]func(have rules.State) rules.Tx{
				"as a whole":   func(have rules.State) rules.Tx { return rules.Diff(have, want()) },
				"part by part": func(have rules.State) rules.Tx { return compare(t, d, have, nil) },
			} {
				have := want()
				tamper(have.Tables[rules.IPv4])
				tx := tx(have)
				if tx.Len() == 0 {
					t.Fatalf("%s: no difference found", how)
				}
				got, err := have.Apply(tx)
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				if text(t, got) != text(t, want()) {
					t.Errorf("%s: got\n%s\nwant\n%s", how, text(t, got), text(t, want()))
				}
			}
		})
	}
}

// compare returns what a comparison of some things finds, or of everything.
func compare(t *testing.T, d *rules.Desired, have rules.State, things []rules.Thing) rules.Tx {
	t.Helper()
	c := d.Compare(things)
	have.Scan(things, c)
	if c.Whole() {
		t.Fatal("the comparison needs everything")
	}
	return c.Tx()
}

// TestUpdateIsSmall checks that a change costs what it changes.
func TestUpdateIsSmall(t *testing.T) {
	sp := servicePort("", rules.TCP, "10.96.0.10:80")
	d := rules.NewDesired(testConfig, testNode)
	all := rules.SelectEndpoints(&sp, ready("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"), &testNode).Cluster // in turn
	d.Update([]rules.Owned{owned(sp, all)})
	for _, tt := range []struct {
		name      string
		endpoints []rules.Endpoint
		kinds     []rules.OpKind
	}{
		{"nothing", all, nil},
		{"an endpoint replaced", ready(all[0].Addr.String(), all[1].Addr.String(), "10.0.0.4:80"), []rules.OpKind{rules.ReplaceElements}},
		{"the last one back", all, []rules.OpKind{rules.ReplaceElements}},
		{"one less", all[:2], []rules.OpKind{rules.ReplaceChain, rules.DeleteElements}},
		{"one left", all[:1], []rules.OpKind{rules.AddElements, rules.DeleteElements, rules.DeleteElements, rules.DeleteChain, rules.DeleteSet}},
		{"none left", nil, []rules.OpKind{rules.AddElements, rules.DeleteElements}},
	} {
		tx := d.Update([]rules.Owned{owned(sp, tt.endpoints)})
		var kinds []rules.OpKind
		for _, op := range tx.Ops() {
			kinds = append(kinds, op.Kind)
		}
		if fmt.Sprint(kinds) != fmt.Sprint(tt.kinds) {
			t.Errorf("%s: operations %v, want %v", tt.name, kinds, tt.kinds)
		}
	}
}

// TestFrontendPassesOn moves a frontend from one owner to another in one update,
// in both orders.
func TestFrontendPassesOn(t *testing.T) {
	a, b := servicePort("a", rules.TCP, "10.96.0.10:80"), servicePort("b", rules.TCP, "10.96.0.10:80")
	gone := func(sp rules.ServicePort) rules.Owned { return rules.Owned{Owner: owner(sp)} }
	for _, order := range [][]rules.Owned{
		{gone(a), owned(b, ready("10.0.0.2:80"))},
		{owned(b, ready("10.0.0.2:80")), gone(a)},
	} {
		d := rules.NewDesired(testConfig, testNode)
		kernel, err := rules.State{}.Apply(rules.Diff(rules.State{}, d.State()))
		if err != nil {
			t.Fatal(err)
		}
		kernel = applyCut(t, kernel, d.Update([]rules.Owned{owned(a, ready("10.0.0.1:80"))}))
		kernel = applyCut(t, kernel, d.Update(order))
		if got, want := text(t, kernel), text(t, d.State()); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// TestFrontendIsGivenUpLate lets an owner keep a frontend for a while that another has already, as one does
// whose change the kernel refuses.
func TestFrontendIsGivenUpLate(t *testing.T) {
	a, b := servicePort("a", rules.TCP, "10.96.0.10:80"), servicePort("b", rules.TCP, "10.96.0.10:80")
	d := rules.NewDesired(testConfig, testNode)
	kernel, err := rules.State{}.Apply(rules.Diff(rules.State{}, d.State()))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []rules.Owned{owned(a, ready("10.0.0.1:80")), owned(b, ready("10.0.0.2:80")), {Owner: owner(a)}} {
		kernel = applyCut(t, kernel, d.Update([]rules.Owned{change}))
	}
	if got, want := text(t, kernel), text(t, d.State()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestApplyRefuses(t *testing.T) {
	d := rules.NewDesired(testConfig, testNode)
	d.Update([]rules.Owned{owned(servicePort("", rules.TCP, "10.96.0.10:80"), ready("10.0.0.1:80", "10.0.0.2:80"))})
	have := d.State()
	element := rules.Element{Key: rules.Key{Addr: servicePort("", rules.TCP, "10.96.0.10:80").ClusterIP, Protocol: rules.TCP, Port: 80}}
	dispatch := rules.SetID{Kind: rules.ServiceIPs}
	for _, tt := range []struct {
		name string
		op   rules.Op
		want error
	}{
		{"a chain twice", rules.Op{Kind: rules.AddChain, Chain: rules.Chain{Name: "services"}}, rules.ErrExist},
		{"replace no chain", rules.Op{Kind: rules.ReplaceChain, Chain: rules.Chain{Name: "x"}}, rules.ErrNotExist},
		{"delete no chain", rules.Op{Kind: rules.DeleteChain, Chain: rules.Chain{Name: "x"}}, rules.ErrNotExist},
		{"delete a chain that is jumped to", rules.Op{Kind: rules.DeleteChain, Chain: rules.Chain{Name: "services"}}, rules.ErrInUse},
		{"delete a chain that a map goes to", rules.Op{Kind: rules.DeleteChain, Chain: rules.Chain{Name: "service/default/web"}}, rules.ErrInUse},
		{"delete a set that rules read", rules.Op{Kind: rules.DeleteSet, Set: dispatch}, rules.ErrInUse},
		{"a set twice", rules.Op{Kind: rules.AddSet, Set: dispatch}, rules.ErrExist},
		{"delete no set", rules.Op{Kind: rules.DeleteSet, Set: rules.SetID{Kind: rules.Endpoints, Shard: 3}}, rules.ErrNotExist},
		{"delete no foreign set", rules.Op{Kind: rules.DeleteSet, Foreign: "x"}, rules.ErrNotExist},
		{"an element twice", rules.Op{Kind: rules.AddElements, Set: dispatch, Elements: []rules.Element{element}}, rules.ErrExist},
		{"delete no element", rules.Op{Kind: rules.DeleteElements, Set: dispatch, Elements: []rules.Element{{Key: rules.Key{Port: 1}}}}, rules.ErrNotExist},
		{"go to no chain", rules.Op{Kind: rules.AddElements, Set: dispatch, Elements: []rules.Element{{Key: rules.Key{Port: 1}, Value: rules.Value{Goto: "x"}}}}, rules.ErrNotExist},
		{"an element of no set", rules.Op{Kind: rules.AddElements, Set: rules.SetID{Kind: rules.Endpoints, Shard: 3}, Elements: []rules.Element{{}}}, rules.ErrNotExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tx rules.Tx
			tx.Add(tt.op)
			got, err := have.Apply(tx)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if text(t, got) != text(t, have) {
				t.Error("the refused transaction changed the state")
			}
		})
	}
}

// TestOmit takes elements out of a transaction: those of sets of ranges with all of their set's.
func TestOmit(t *testing.T) {
	element := func(i byte) rules.Element {
		return rules.Element{Key: rules.Key{Addr: netip.AddrFrom4([4]byte{10, 0, 0, i})}}
	}
	ips, cidrs := rules.SetID{Kind: rules.NodePortIPs}, rules.SetID{Kind: rules.ServiceCIDRs}
	var tx rules.Tx
	tx.Add(rules.Op{Kind: rules.AddSet, Set: ips},
		rules.Op{Kind: rules.AddElements, Set: ips, Elements: []rules.Element{element(1), element(2)}},
		rules.Op{Kind: rules.DeleteElements, Set: ips, Elements: []rules.Element{element(3)}},
		rules.Op{Kind: rules.AddElements, Family: rules.IPv6, Set: ips, Elements: []rules.Element{element(1)}},
		rules.Op{Kind: rules.FillSet, Set: cidrs, Elements: []rules.Element{element(4), element(5)}})
	whole := tx
	var gone []rules.Object
	for set, i := range map[rules.SetID]byte{ips: 1, cidrs: 5} {
		e := element(i)
		gone = append(gone, rules.Object{Set: set.Name(), Element: &e})
	}
	three := element(3)
	tx.Omit(append(gone, rules.Object{Set: ips.Name(), Element: &three}))
	if n := tx.Elements(); n != 2 || tx.Len() != 3 {
		t.Errorf("%d operations with %d elements are left, want 3 with 2: %+v", tx.Len(), n, tx.Ops())
	}
	if whole.Elements() != 6 {
		t.Error("it changed another transaction")
	}
}
