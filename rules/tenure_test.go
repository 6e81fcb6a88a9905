// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// TestHold: what it takes to give a table an owner or none, by a comparison of everything, of the table alone, and by Diff.
func TestHold(t *testing.T) {
	ours := rules.Tenure{Owner: true, Persist: true, Ours: true}
	for _, row := range []struct {
		have    rules.Tenure
		dormant bool
		wanted  rules.Hold
		want    string // what is done
		err     error
	}{
		{rules.Tenure{}, false, rules.HoldAsIs, "", nil},
		{rules.Tenure{Persist: true}, false, rules.HoldAsIs, "", nil},
		{rules.Tenure{Owner: true}, false, rules.HoldAsIs, "", nil},
		{rules.Tenure{}, true, rules.HoldAsIs, "add", nil},
		{rules.Tenure{}, false, rules.HoldOwned, "replace", nil},
		{rules.Tenure{}, true, rules.HoldOwned, "replace", nil},
		{rules.Tenure{Persist: true}, false, rules.HoldOwned, "add", nil},
		{rules.Tenure{Persist: true}, true, rules.HoldOwned, "add", nil},
		{ours, false, rules.HoldOwned, "", nil},
		{ours, true, rules.HoldOwned, "replace", nil},
		{rules.Tenure{Owner: true, Ours: true}, false, rules.HoldOwned, "replace", nil},
		{rules.Tenure{Owner: true, Persist: true}, false, rules.HoldOwned, "add", rules.ErrHeld},
		{rules.Tenure{Owner: true}, false, rules.HoldOwned, "replace", rules.ErrHeld},
		{rules.Tenure{}, false, rules.HoldFree, "", nil},
		{rules.Tenure{}, true, rules.HoldFree, "add", nil},
		{rules.Tenure{Persist: true}, false, rules.HoldFree, "replace", nil},
		{ours, false, rules.HoldFree, "replace", nil},
		{rules.Tenure{Owner: true, Persist: true}, false, rules.HoldFree, "replace", rules.ErrHeld},
	} {
		name := fmt.Sprintf("%+v, dormant %t, to %d", row.have, row.dormant, row.wanted)
		config := testConfig
		config.Hold = row.wanted
		d := rules.NewDesired(config, testNode)
		d.Update([]rules.Owned{owned(servicePort("", rules.TCP, "10.96.0.10:80"), ready("10.0.0.1:80", "10.0.0.2:80"))})
		have := d.State()
		for _, f := range rules.Families {
			have.Tables[f].Tenure, have.Tables[f].Dormant = row.have, row.dormant
		}
		table := rules.Thing{Kind: rules.ThingTable}
		ways := map[string]rules.Tx{"Diff": rules.Diff(have, d.State()), "all": compare(t, d, have, nil)}
		alone := d.Compare([]rules.Thing{table})
		if have.Scan([]rules.Thing{table}, alone); alone.Whole() != (row.want == "replace") {
			t.Errorf("%s: a comparison of the table alone needs everything: %t", name, alone.Whole())
		}
		if !alone.Whole() {
			ways["the table"] = alone.Tx()
		}
		for by, tx := range ways {
			got := ""
			for _, op := range tx.Ops() {
				switch {
				case op.Family == rules.IPv6:
				case op.Kind == rules.AddTable:
					got = "add"
				case op.Kind == rules.ResetTable:
					got = "replace"
				}
				if (op.Kind == rules.AddTable || op.Kind == rules.ResetTable) && op.Owned != (row.wanted == rules.HoldOwned) {
					t.Errorf("%s by %s: owned %t", name, by, op.Owned)
				}
			}
			if got != row.want {
				t.Errorf("%s by %s: %q, want %q", name, by, got, row.want)
			}
			after, err := have.Apply(tx)
			if !errors.Is(err, row.err) {
				t.Errorf("%s by %s: %v, want %v", name, by, err, row.err)
			}
			if left := rules.Diff(after, d.State()); err == nil && by != "the table" && left.Len() > 0 {
				t.Errorf("%s by %s: %d operations left", name, by, left.Len())
			}
		}
	}
}

// TestHoldOfNode: a change of the node changes what it changes, and replaces no table.
func TestHoldOfNode(t *testing.T) {
	for _, hold := range []rules.Hold{rules.HoldAsIs, rules.HoldOwned, rules.HoldFree} {
		config := testConfig
		config.Hold = hold
		d := rules.NewDesired(config, testNode)
		node := testNode
		node.NodePortIPs = node.NodePortIPs[:1]
		tx := d.SetNode(node)
		if ops := tx.Ops(); len(ops) != 1 || ops[0].Kind != rules.DeleteElements {
			t.Errorf("with %d it takes %d operations, the first to %s", hold, len(ops), ops[0].Object(tx.Name))
		}
	}
}

// TestHoldOfNew: new tables get an owner, or none.
func TestHoldOfNew(t *testing.T) {
	for hold, want := range map[rules.Hold]bool{rules.HoldAsIs: false, rules.HoldOwned: true, rules.HoldFree: false} {
		d := rules.NewDesired(rules.Config{Hold: hold}, testNode)
		state, err := rules.State{}.Apply(rules.Diff(rules.State{}, d.State()))
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range state.Tables {
			if got := table.Tenure; got.Owner != want || got.Persist != want || got.Ours != want {
				t.Errorf("%d: %+v", hold, got)
			}
		}
	}
}

// TestFlagsWithoutReplacement: the flags of a table that stands are refused, as the kernel refuses them.
func TestFlagsWithoutReplacement(t *testing.T) {
	have := rules.NewDesired(testConfig, testNode).State()
	tx := rules.Tx{Name: have.Name}
	tx.Add(rules.Op{Kind: rules.AddTable, Owned: true})
	if _, err := have.Apply(tx); !errors.Is(err, rules.ErrFlags) {
		t.Errorf("error %v", err)
	}
}

// TestTextOfFlags shows them as nft does.
func TestTextOfFlags(t *testing.T) {
	by := rules.Process{PID: 4711, Name: "nft\nproxy"}
	for want, tenure := range map[string]rules.Tenure{
		"table ip nftproxy {\n\tset":                                                 {},
		"table ip nftproxy {\n\tflags persist\n\n\tset":                              {Persist: true},
		"table ip nftproxy {\n\tflags owner,persist\n\n\tset":                        {Owner: true, Persist: true, Port: 1},
		"table ip nftproxy { # progname nft\\nproxy\n\tflags owner,persist\n\n\tset": {Owner: true, Persist: true, Port: 1, By: by},
	} {
		s := rules.NewDesired(testConfig, testNode).State()
		s.Tables[rules.IPv4].Tenure = tenure
		if got := text(t, s); !strings.HasPrefix(got, want) {
			t.Errorf("%+v: %.80q, want %q", tenure, got, want)
		}
		json := written(t, s.WriteJSON)
		for flags, has := range map[string]bool{`"flags":["owner","persist"]`: tenure.Owner, `"flags":"persist"`: tenure.Orphaned()} {
			if strings.Contains(json, `{"table":{"family":"ip","name":"nftproxy",`+flags) != has {
				t.Errorf("%+v: %.200s", tenure, json)
			}
		}
	}
}
