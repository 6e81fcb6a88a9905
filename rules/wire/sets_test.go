// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestSchemaSame: a set of our name whose declaration differs in any field that elements depend on is not ours.
func TestSchemaSame(t *testing.T) {
	base := rulestest.Filled[schema]()
	rulestest.Flips(func(field string, flipped schema) {
		ignored := strings.HasPrefix(field, ".userdata") || field == ".counted" // compared elsewhere; how nft prints it
		if base.same(flipped) != ignored || flipped.same(base) != ignored {
			t.Errorf("a difference in %s: it is the same: %v", field, !ignored)
		}
	})
}
