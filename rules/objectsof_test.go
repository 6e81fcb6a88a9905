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
