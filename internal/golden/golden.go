// SPDX-License-Identifier: Apache-2.0

// Package golden is for tests that compare a text with a file of their testdata. With the flag -update they write the
// file instead.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files instead of comparing with them")

// Named returns the file of a test in testdata, which has the test's name; ext is its ending.
func Named(t *testing.T, ext string) string {
	return filepath.Join("testdata", strings.ReplaceAll(t.Name(), "/", "_")+ext)
}

// Check fails the test if a file has another text.
func Check(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: run the test with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-file +got); if that is meant, run with -update:\n%s", file, diff)
	}
}
