// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// TestCompareTables from nothing, and where one table is gone.
func TestCompareTables(t *testing.T) {
	d := rules.NewDesired(testConfig, testNode)
	d.Update([]rules.Owned{owned(servicePort("", rules.TCP, "10.96.0.10:80"), ready("10.0.0.1:80", "10.0.0.2:80"))})
	want := d.State()
	for name, have := range map[string]rules.State{
		"nothing":    {Name: want.Name},
		"one of two": {Name: want.Name, Tables: [2]*rules.Table{rules.IPv6: want.Clone().Tables[rules.IPv6]}},
	} {
		got, err := have.Apply(compare(t, d, have, nil))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if text(t, got) != text(t, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, text(t, got), text(t, want))
		}
		table := []rules.Thing{{Kind: rules.ThingTable, Family: rules.IPv4}}
		c := d.Compare(table)
		if have.Scan(table, c); !c.Whole() {
			t.Errorf("%s: a comparison of one thing is enough", name)
		}
	}
}

// TestCompareNothing: what is as it should be is so however it is named: an element beside its set, or of a set that nobody wants.
func TestCompareNothing(t *testing.T) {
	d := rules.NewDesired(testConfig, testNode)
	d.Update([]rules.Owned{owned(servicePort("", rules.TCP, "10.96.0.10:80"), ready("10.0.0.1:80"))})
	key := rules.Key{Addr: netip.MustParseAddr("10.96.0.10"), Protocol: rules.TCP, Port: 80}
	single, sticky := rules.SetID{Kind: rules.Single}, rules.SetID{Kind: rules.Sticky}
	set := rules.Thing{Kind: rules.ThingSet, Name: single.Name()}
	element := rules.Thing{Kind: rules.ThingElement, Name: single.Name(), Key: key}
	for _, things := range [][]rules.Thing{{set, element}, {element, set}, {{Kind: rules.ThingElement, Name: sticky.Name(), Key: key}}} {
		if tx := compare(t, d, d.State(), things); tx.Len() > 0 {
			t.Errorf("%+v: %d differences, the first to %s", things, tx.Len(), tx.Ops()[0].Object("t"))
		}
	}
	have := d.State()
	clear(have.Tables[rules.IPv4].Sets[single])
	got, err := have.Apply(compare(t, d, have, []rules.Thing{element, set}))
	if err != nil || text(t, got) != text(t, d.State()) {
		t.Errorf("an element that is gone, and named twice: %v", err)
	}
}

// TestCompareThings: a comparison of what was changed finds all of it, and one of anything else nothing.
func TestCompareThings(t *testing.T) {
	d := rules.NewDesired(testConfig, testNode)
	d.Update([]rules.Owned{owned(servicePort("", rules.TCP, "10.96.0.10:80"), ready("10.0.0.1:80", "10.0.0.2:80")),
		owned(servicePort("other", rules.TCP, "10.96.0.11:80"), ready("10.0.0.3:80"))})
	frontends, clusterIPs := rules.SetID{Kind: rules.ServiceIPs}, rules.SetID{Kind: rules.ClusterIPs}
	key := rules.Key{Addr: netip.MustParseAddr("10.96.0.10")}
	frontend := rules.Key{Addr: key.Addr, Protocol: rules.TCP, Port: 80}
	foreign := rules.Key{Addr: netip.MustParseAddr("10.96.0.99")}
	chain := func(name string) rules.Thing { return rules.Thing{Kind: rules.ThingChain, Name: name} }
	set := func(id rules.SetID) rules.Thing { return rules.Thing{Kind: rules.ThingSet, Name: id.Name()} }
	element := func(id rules.SetID, k rules.Key) rules.Thing {
		return rules.Thing{Kind: rules.ThingElement, Name: id.Name(), Key: k}
	}
	rows := []struct {
		thing  rules.Thing
		change func(*rules.Table)
	}{
		{chain("services"), func(t *rules.Table) { t.Chains["services"] = rules.Chain{Name: "services"} }},
		{chain("theirs"), func(t *rules.Table) { t.Chains["theirs"] = rules.Chain{Name: "theirs"} }},
		{chain("prerouting"), func(t *rules.Table) { delete(t.Chains, "prerouting") }},
		{set(rules.SetID{Kind: rules.Hairpin}), func(t *rules.Table) { delete(t.Sets, rules.SetID{Kind: rules.Hairpin}) }},
		{set(rules.SetID{Kind: rules.Single}), func(t *rules.Table) { clear(t.Sets[rules.SetID{Kind: rules.Single}]) }},
		{element(clusterIPs, key), func(t *rules.Table) { delete(t.Sets[clusterIPs], key) }},
		{element(clusterIPs, foreign), func(t *rules.Table) { t.Sets[clusterIPs][foreign] = rules.Value{} }},
		{element(frontends, frontend), func(t *rules.Table) { t.Sets[frontends][frontend] = rules.Value{Goto: "no-endpoints"} }},
		{rules.Thing{Kind: rules.ThingTable}, func(t *rules.Table) { t.Dormant = true }},
		{rules.Thing{Kind: rules.ThingOther}, func(t *rules.Table) { t.Objects = []rules.ForeignObject{{Type: 1, Name: "x"}} }},
	}
	for i, row := range rows {
		have := d.State()
		row.change(have.Tables[rules.IPv4])
		for j, other := range rows {
			tx := compare(t, d, have, []rules.Thing{other.thing})
			if (tx.Len() > 0) != (i == j) {
				t.Errorf("%+v was changed: a comparison of %+v finds %d differences", row.thing, other.thing, tx.Len())
			}
		}
	}
	for range 100 { // some of them, together
		have := d.State()
		var things []rules.Thing
		for _, row := range rows {
			if rand.IntN(2) == 0 {
				row.change(have.Tables[rules.IPv4])
				things = append(things, row.thing)
			}
		}
		if len(things) == 0 {
			continue
		}
		got, err := have.Apply(compare(t, d, have, things))
		if err != nil {
			t.Fatal(err)
		}
		if text(t, got) != text(t, d.State()) {
			t.Fatalf("%+v: got\n%s", things, text(t, got))
		}
	}
}
