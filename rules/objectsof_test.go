// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestObjectsOf finds each service port's objects among all, whatever they were before: to put what is found in the place of
// what should be there changes nothing in a table.
func TestObjectsOf(t *testing.T) {
	for seed := range uint64(8) {
		w := rulestest.NewWorld(seed)
		d := rules.NewDesired(w.Config(), w.Node())
		found := 0
		for range 20 {
			before := d.State()
			kernel := before.Clone()
			step := w.Step()
			for _, o := range step {
				if old := d.Objects(o.Owner); len(old.Sets) > 0 {
					held := kernel.Tables[o.Owner.Family].ObjectsOf(o.Owner.ServicePortName, old)
					if got, want := fmt.Sprint(objects(held)), fmt.Sprint(objects(old)); got != want {
						t.Fatalf("seed %d, %s: found\n%s\nwant\n%s", seed, o.Owner, got, want)
					}
					found++
				}
			}
			d.Update(step)
		}
		if found == 0 {
			t.Errorf("seed %d: nothing to look for", seed)
		}
	}
}

// TestObjectsOfHalf finds objects in the middle of transactions, when some of them have gone or are not there yet. What is
// found can be there on its own: it refers to nothing else.
func TestObjectsOfHalf(t *testing.T) {
	for seed := range uint64(8) {
		w := rulestest.NewWorld(seed)
		d := rules.NewDesired(w.Config(), w.Node())
		kernel, err := rules.State{}.Apply(rules.Diff(rules.State{}, d.State()))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			step := w.Step()
			old := map[rules.Owner]rules.Objects{}
			for _, o := range step {
				old[o.Owner] = d.Objects(o.Owner)
			}
			tx := d.Update(step)
			for _, op := range tx.Ops() {
				var one rules.Tx
				one.Add(op)
				if kernel, err = kernel.Apply(one); err != nil {
					t.Fatal(err)
				}
				for owner, want := range old {
					held := kernel.Tables[owner.Family].ObjectsOf(owner.ServicePortName, want)
					alone := rules.NewDesired(w.Config(), w.Node())
					alone.Update([]rules.Owned{{Owner: owner, Objects: held}})
					if _, err := (rules.State{}).Apply(rules.Diff(rules.State{}, alone.State())); err != nil {
						t.Fatalf("seed %d, after %v: what is found of %s: %v", seed, op.Kind, owner, err)
					}
				}
			}
		}
	}
}

// objects is what of an owner's objects the kernel knows, in words.
func objects(o rules.Objects) (out []string) {
	d := rules.NewDesired(rules.Config{}, rules.Node{})
	tx := d.Update([]rules.Owned{{Owner: rules.Owner{}, Objects: o}})
	for _, op := range tx.Ops() {
		if op.Chain.Hook == nil {
			out = append(out, fmt.Sprint(op.Kind, op.Set, op.Chain, op.Size, op.Elements))
		}
	}
	slices.Sort(out)
	return out
}
