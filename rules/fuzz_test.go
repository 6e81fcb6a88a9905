// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// FuzzSetName: a name that is read as a set's is the name of that set, so that no two sets of a
// table are taken for one.
func FuzzSetName(f *testing.F) {
	for _, seed := range []string{"endpoints-7f", "endpoints-7F", "affinity/default/web", "affinity/default/web/http-local", "sources/default/web",
		"cluster-ips", "service-ips", "set-3", "endpoints-", "affinity", "affinity/", "sources//"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if id, ok := rules.ParseSetID(name); ok && id.Name() != name {
			t.Errorf("%q is read as %q", name, id.Name())
		}
	})
}
