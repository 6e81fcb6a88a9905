// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// wantUnequal wants an equality to see each field but some.
func wantUnequal[T any](t *testing.T, what string, equal func(a, b T) bool, but ...string) {
	t.Helper()
	if !equal(rulestest.Filled[T](), rulestest.Filled[T]()) {
		t.Errorf("%s: two values that are equal differ", what)
	}
	n := 0
	rulestest.Flips(func(field string, flipped T) {
		n++
		ignored := false
		for _, b := range but {
			ignored = ignored || strings.HasPrefix(field, b)
		}
		if equal(rulestest.Filled[T](), flipped) != ignored || equal(flipped, rulestest.Filled[T]()) != ignored {
			t.Errorf("%s: a difference in %s: it is equal: %v", what, field, !ignored)
		}
	})
	if n == 0 {
		t.Errorf("%s: no fields", what)
	}
}

// TestEqual: each hand-written equality sees each field.
func TestEqual(t *testing.T) {
	wantUnequal(t, "Node", func(a, b rules.Node) bool { return a.Equal(&b) })
	wantUnequal(t, "Node.BuildsEqual", func(a, b rules.Node) bool { return a.BuildsEqual(&b) }, ".NodePortIPs", ".ServiceCIDRs")
	wantUnequal(t, "Chain", rules.Chain.Equal)
}

// TestClone: a copy has each field, and shares no map.
func TestClone(t *testing.T) {
	check := func(field string, s rules.State) {
		c := s.Clone()
		if !reflect.DeepEqual(s, c) {
			t.Errorf("%s: the copy is not the same:\n%+v\n%+v", field, s, c)
		}
		if same := rulestest.Shared(s, c); len(same) > 0 {
			t.Errorf("%s: the copy shares %v", field, same)
		}
	}
	check("all", rulestest.Filled[rules.State]())
	rulestest.Flips(check)
}

// TestDefaults: what is set stays, and each field of a Config that has a default gets it.
func TestDefaults(t *testing.T) {
	check := func(field string, c rules.Config) {
		if got := c.WithDefaults(); !reflect.DeepEqual(got, c) {
			t.Errorf("%s: %+v became %+v", field, c, got)
		}
	}
	check("all", rulestest.Filled[rules.Config]())
	rulestest.Flips(check)
}
