// SPDX-License-Identifier: Apache-2.0

package rules

import "testing"

// TestRolesAreComplete: each chain that is built has a row, and its name is read as it is made.
func TestRolesAreComplete(t *testing.T) {
	port := ServicePortName{Namespace: "default", Name: "web", Port: "http"}
	ids := []ChainID{{ChainService, ServicePortName{Namespace: "default", Name: "web"}}, sharedChain(Random, 3)}
	for _, r := range roles {
		if r.role == "" || r.note == "" || r.rank < 0 || r.rank >= chainRanks-1 {
			t.Errorf("%+v: it needs a name, a note and a rank", r)
		}
		if id := (ChainID{Role: r.role, Of: port}); !r.common {
			ids = append(ids, id)
		} else {
			ids = append(ids, ChainID{Role: r.role})
		}
	}
	for _, id := range ids {
		if got := ParseChainID(id.Name()); got != id || got.note() == "" {
			t.Errorf("%s is read as %+v, %q", id.Name(), got, got.note())
		}
	}
	for _, theirs := range []string{"theirs", "random", "random-x", "round-robin-3", "theirs/default/web"} {
		if note := ParseChainID(theirs).note(); note != "" {
			t.Errorf("%s: %q", theirs, note)
		}
	}
}

// TestBuiltChains: no chain that every table has lacks a row.
func TestBuiltChains(t *testing.T) {
	for name := range base(IPv4, Config{}.WithDefaults(), Node{}, usage{sticky: true}).Chains {
		if !ParseChainID(name).Role.row().common {
			t.Errorf("%s has no row", name)
		}
	}
}
