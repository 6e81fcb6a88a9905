// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestModel changes services at random. What the kernel holds after each change
// must be the desired state, and in the end what a kernel holds to which the end
// state came at once.
func TestModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := rulestest.NewWorld(seed)
			h := newHost(t)
			d := rules.NewDesired(w.Config(), w.Node())
			h.load(t, d.State())
			for i := range 40 {
				tx := d.Update(w.Step())
				h.apply(t, tx)
				wantState(t, fmt.Sprintf("after change %d: %s", i, summary(tx)), h.read(t, tx.Name), d.State())
				if t.Failed() {
					return
				}
			}
			stepwise := h.read(t, rules.DefaultTable)
			wantState(t, "step by step, compared with at once", stepwise, atOnce(t, w))
			none := rules.NewDesired(w.Config(), w.Node()).State()
			h.load(t, none)
			wantState(t, "after all services went", h.read(t, rules.DefaultTable), none)
		})
	}
}

// TestModelCounted changes services whose connections are counted, and then whether they are.
func TestModelCounted(t *testing.T) {
	w := rulestest.NewWorld(3)
	w.Count = true
	h := newHost(t)
	d := rules.NewDesired(w.Config(), w.Node())
	h.load(t, d.State())
	for range 40 {
		h.apply(t, d.Update(w.Step()))
	}
	counted := d.State()
	wantState(t, "counted", h.read(t, counted.Name), counted)
	wantSame(t, h.read(t, counted.Name), counted)
	plain := counted.Clone()
	for _, table := range plain.Tables {
		table.Counted = false
	}
	for _, want := range []rules.State{plain, counted} {
		h.load(t, want)
		wantState(t, "switched", h.read(t, want.Name), want)
	}
	if got := rules.Differences(h.read(t, plain.Name), plain); len(got) > 0 {
		t.Errorf("whether connections are counted is a difference: %+v", got)
	}
}

// atOnce returns what a new kernel holds after all services came in one transaction
// to the tables without services.
func atOnce(t *testing.T, w *rulestest.World) rules.State {
	t.Helper()
	h := newHost(t)
	d := rules.NewDesired(w.Config(), w.Node())
	h.load(t, d.State())
	h.apply(t, d.Update(w.All()))
	return h.read(t, rules.DefaultTable)
}

// TestModelDiff goes from one random state to another, as after a restart.
func TestModelDiff(t *testing.T) {
	h := newHost(t)
	for seed := range uint64(20) {
		w := rulestest.NewWorld(seed)
		for range 15 {
			w.Step()
		}
		d := rules.NewDesired(w.Config(), w.Node())
		d.Update(w.All())
		want := d.State()
		h.load(t, want)
		got := h.read(t, want.Name)
		wantState(t, fmt.Sprintf("state %d", seed), got, want)
		wantSame(t, got, want)
		if t.Failed() {
			return
		}
	}
}
