// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// TestPruneMany deletes more clients than fit one transaction.
func TestPruneMany(t *testing.T) {
	const n = 100000
	for _, f := range rules.Families {
		h := newHost(t)
		h.apply(t, transaction(rules.Op{Kind: rules.ResetTable, Family: f}))
		set := rules.SetID{Kind: rules.Affinity, Of: "/default/web"}
		gone, stays := netip.AddrPortFrom(address(f, 128, 1), 8080), netip.AddrPortFrom(address(f, 128, 2), 8080)
		op := rules.Op{Kind: rules.AddElements, Family: f, Set: set}
		for i := range n {
			to := gone
			if i%1000 == 0 {
				to = stays
			}
			op.Elements = append(op.Elements, rules.Element{Key: rules.Key{Addr: address(f, 10, i)}, Value: rules.Value{To: to}})
		}
		h.apply(t, transaction(rules.Op{Kind: rules.AddSet, Family: f, Set: set, Size: 1 << 18}, op))
		h.apply(t, transaction(rules.Op{Kind: rules.PruneElements, Family: f, Set: set, Keep: []netip.AddrPort{stays}}))
		if left := len(h.read(t, rules.DefaultTable).Tables[f].Sets[set]); left != n/1000 {
			t.Errorf("%s: %d clients are left, want %d", f, left, n/1000)
		}
	}
}

// TestPruneGone: a client that has gone by itself keeps none of the others.
func TestPruneGone(t *testing.T) {
	const f = rules.IPv4
	h := newHost(t)
	h.apply(t, transaction(rules.Op{Kind: rules.ResetTable, Family: f}))
	set := rules.SetID{Kind: rules.Affinity, Of: "/default/web"}
	element := func(i int) rules.Element {
		return rules.Element{Key: rules.Key{Addr: address(f, 10, i)}, Value: rules.Value{To: netip.AddrPortFrom(address(f, 128, 1), 8080)}}
	}
	h.apply(t, transaction(rules.Op{Kind: rules.AddSet, Family: f, Set: set, Size: 100},
		rules.Op{Kind: rules.AddElements, Family: f, Set: set, Elements: []rules.Element{element(1), element(3)}}))
	h.pruner.batch.table, h.pruner.batch.sock = rules.DefaultTable, h.pruner.sock
	if err := h.pruner.deleteNow(&rules.Op{Kind: rules.DeleteElements, Family: f, Set: set, Elements: []rules.Element{element(1), element(2), element(3)}}); err != nil {
		t.Fatal(err)
	}
	if left := h.read(t, rules.DefaultTable).Tables[f].Sets[set]; len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
