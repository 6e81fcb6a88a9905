// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trust

import "testing"

// nobody is a user who is neither root nor the one that runs the tests.
const nobody = 65534

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
