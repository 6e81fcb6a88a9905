// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"testing"
)

// movedOf returns the greatest part of a table's slots that move though their endpoint stays, when one of some endpoints leaves.
func movedOf(endpoints, size int) (worst float64) {
	list := weighted(slices.Repeat([]uint32{1}, endpoints)...)
	before := maglev(list, size, HashSeed)
	for gone := 0; gone < endpoints; gone += max(1, endpoints/14) {
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
	return worst
}

// TestMaglevMoves: how many slots of others move when an endpoint leaves, as docs/schedulers.md has it. Where a table is not called
// coarse, few do, and with the size that is named instead about one in a hundred.
func TestMaglevMoves(t *testing.T) {
	for endpoints, row := range map[int]map[int]float64{
		10:  {251: 0.065, 1021: 0.04, 4093: 0.015, 16381: 0.009, 32749: 0.006, 65521: 0.0045},
		100: {251: 0.08, 1021: 0.05, 4093: 0.04, 16381: 0.015, 32749: 0.01, 65521: 0.007},
	} {
		for size, most := range row {
			worst := movedOf(endpoints, size)
			t.Logf("%d endpoints, %d slots: at most %.2f %% move", endpoints, size, 100*worst)
			if worst > most {
				t.Errorf("%d endpoints, %d slots: %.2f %% of the slots of others move, want at most %.2f %%", endpoints, size, 100*worst, 100*most)
			}
		}
	}
	for _, endpoints := range []int{3, 10, 40, 100, 200} {
		finer, coarse := CoarseTable(coarseSlots*endpoints-1, endpoints)
		if !coarse || !IsMaglevSize(finer) {
			t.Errorf("%d endpoints: fewer than %d slots for each are coarse: %t, finer are %d", endpoints, coarseSlots, coarse, finer)
		} else if worst := movedOf(endpoints, finer); worst > 0.016 {
			t.Errorf("%d endpoints, %d slots: %.2f %% of the slots of others move", endpoints, finer, 100*worst)
		}
		for _, size := range maglevSizes {
			if _, coarse := CoarseTable(size, endpoints); !coarse {
				if worst := movedOf(endpoints, size); worst > 0.04 {
					t.Errorf("%d endpoints, %d slots: %.2f %% of the slots of others move, and the table is not coarse", endpoints, size, 100*worst)
				}
				break
			}
		}
	}
	if _, coarse := CoarseTable(MaxMaglevSize, MaxEndpoints); coarse {
		t.Error("there is no finer table than the greatest")
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
