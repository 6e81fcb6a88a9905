// SPDX-License-Identifier: Apache-2.0

package netnstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Tool returns the path of a program that a test runs, such as nft. Where there is
// none the test is skipped, with a reason that begins with 'missing tool'; with
// NFTPROXY_REQUIRE_TOOLS=1 in the environment it fails. It looks into the
// directories of system programs besides $PATH, which an ordinary user's lacks.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	switch {
	case err == nil:
	case os.Getenv("NFTPROXY_REQUIRE_TOOLS") == "1":
		t.Fatalf("missing tool: %s: NFTPROXY_REQUIRE_TOOLS=1 forbids to skip the test: install it", name)
	default:
		t.Skipf("missing tool: %s: install it to run this test", name)
	}
	return path
}
