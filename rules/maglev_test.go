// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"testing"
)

// TestMaglevMoves: when one of 100 endpoints leaves, at most one in a hundred of the others' slots moves.
func TestMaglevMoves(t *testing.T) {
	list := weighted(make([]uint32, 100)...)
	for i := range list {
		list[i].Weight = 1
	}
	for size, most := range map[int]float64{1021: 0.08, 16381: 0.015, 32749: 0.01, 65521: 0.007} {
		before := maglev(list, size, HashSeed)
		worst := 0.0
		for gone := 0; gone < 100; gone += 7 {
			after := maglev(slices.Delete(slices.Clone(list), gone, gone+1), size, HashSeed)
			moved := 0
			for i := range before {
				now := int(after[i])
				if now >= gone {
					now++
				}
				if was := int(before[i]); was != gone && was != now {
					moved++
				}
			}
			worst = max(worst, float64(moved)/float64(size))
		}
		t.Logf("%d slots: at most %.2f %% move", size, 100*worst)
		if worst > most {
			t.Errorf("%d slots: %.2f %% of the slots of others move, want at most %.2f %%", size, 100*worst, 100*most)
		}
	}
}

// TestMaglevShares: each endpoint has its share of the slots, whatever the weights.
func TestMaglevShares(t *testing.T) {
	if got := fmt.Sprint(maglev(weighted(1, 2, 4), 251, 1).counts(3)); got != "[36 72 143]" {
		t.Errorf("weights 1, 2 and 4: %s slots of 251", got)
	}
	if got := maglev(weighted(1, 1, 1, 1, 1), 3, 1); len(got) != 3 {
		t.Errorf("fewer slots than endpoints: %v", got)
	}
}

// TestMaglevIsStable: another version would move all flows, on nodes that have it and not on those that do not.
func TestMaglevIsStable(t *testing.T) {
	if got, want := fmt.Sprint(maglev(weighted(1, 1, 1), 13, HashSeed)), "[1 2 2 0 0 1 0 2 1 0 0 1 2]"; got != want {
		t.Errorf("slots %s, want %s", got, want)
	}
}

func TestMaglevSizes(t *testing.T) {
	for _, n := range maglevSizes {
		if n >= MinMaglevSize && !IsMaglevSize(n) {
			t.Errorf("%d is no size", n)
		}
	}
	for _, n := range []int{0, 2, 127, 250, 252, 1024, 65522, 65537, 1 << 20} {
		if IsMaglevSize(n) {
			t.Errorf("%d is a size", n)
		}
	}
	for _, tt := range []struct{ asked, endpoints, limit, want int }{
		{0, 3, MaxEndpoints, 1021}, {251, 3, MaxEndpoints, 251}, {65521, 3, 1024, 1021}, {251, 300, MaxEndpoints, 509}, {257, 300, 300, 509}, {4093, 3, 16, 13},
	} {
		sp := ServicePort{Policies: Policies{TableSize: uint16(tt.asked)}}
		if got := tableSize(&sp, tt.endpoints, tt.limit); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}
