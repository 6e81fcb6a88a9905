// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// wantUnequal wants an equality to see each field but some.
func wantUnequal[T any](t *testing.T, what string, equal func(a, b T) bool, but ...string) {
	t.Helper()
	if !equal(rulestest.Filled[T](), rulestest.Filled[T]()) {
		t.Errorf("%s: two values that are equal differ", what)
	}
	rulestest.Flips(func(field string, flipped T) {
		ignored := slices.ContainsFunc(but, func(b string) bool { return strings.HasPrefix(field, b) })
		if equal(rulestest.Filled[T](), flipped) != ignored || equal(flipped, rulestest.Filled[T]()) != ignored {
			t.Errorf("%s: a difference in %s: it is equal: %v", what, field, !ignored)
		}
	})
}

// TestEqual: each hand-written equality sees each field.
func TestEqual(t *testing.T) {
	wantUnequal(t, "endpoint", func(a, b endpoint) bool { return a.equal(&b) }, ".pod", ".at.value.node") // names for who asks, here and below
	wantUnequal(t, "hints", func(a, b hints) bool { return a.equal(&b) })
	wantUnequal(t, "slice", func(a, b slice) bool { return a.equal(&b) }, ".at", ".endpoints[0].pod", ".endpoints[0].at.value.node") // the place in the store
}

// TestStoreSeesEachField: a Service that differs in any one field is a change.
func TestStoreSeesEachField(t *testing.T) {
	name := ObjectName{"default", "web"}
	wantUnequal(t, "service", func(a, b service) bool {
		st := newStore()
		st.setService(name, &a)
		st.take()
		changed := st.setService(name, &b)
		if changed != (len(st.take()) > 0) {
			t.Error("a change is of no owner, or none is of one")
		}
		return !changed
	}, ".uid", ".over", ".told") // which only Events name; which counts what is left out of the rest; for who asks
	wantUnequal(t, "slice", func(a, b slice) bool {
		st := newStore()
		st.setService(a.service, &service{ports: a.ports})
		st.setSlice(name, &a)
		return !st.setSlice(name, &b)
	}, ".at", ".endpoints[0].pod", ".endpoints[0].at.value.node") // the place in the store
}
