// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"testing"
)

// TestSchedulersAreComplete: each scheduler has a row with all that it needs, and its name is read as it is made.
func TestSchedulersAreComplete(t *testing.T) {
	type choice struct {
		field  FieldKind
		layout layout
	}
	choices := map[choice]bool{}
	for _, s := range Schedulers() {
		row := schedulers[s]
		if row.name == "" || row.field == 0 || choices[choice{row.field, row.layout}] || row.shares && row.needs == "" {
			t.Errorf("%d: %+v: it needs a name, a way of its own to choose and what nftables must have for it", s, row)
		}
		choices[choice{row.field, row.layout}] = true
		if got, err := ParseScheduler(s.String()); got != s || err != nil {
			t.Errorf("%s is read as %s, %v", s, got, err)
		}
		counter := row.field == Numgen
		switch {
		case !slices.Contains([]FieldKind{Numgen, RandomNumber, FlowHash, AddrHash}, row.field):
			t.Errorf("%s: field %d chooses nothing", s, row.field)
		case (row.needs == "") != counter:
			t.Errorf("%s: needs %q: all nftables have counters, and not all have the other ways", s, row.needs)
		case counter && row.shares:
			t.Errorf("%s: a counter belongs to one service port", s)
		case counter != row.turns:
			t.Errorf("%s: the order of endpoints matters exactly where they take turns", s)
		case row.alike && (row.layout != tabulate || row.turns):
			t.Errorf("%s: nodes choose alike by a table alone", s)
		}
	}
	if _, err := ParseScheduler("fair"); err == nil || err.Error() != `"fair" is none of round-robin, random, source-hash, client-hash, maglev, least-connections` {
		t.Error(err)
	}
}
