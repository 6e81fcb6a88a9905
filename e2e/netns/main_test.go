// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"fmt"
	"os"
	"testing"
)

// helperEnv makes the test binary one of the helper programs of rerun_test.go.
const helperEnv = "NETNS_TEST_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		os.Exit(helper(mode))
	}
	os.Exit(Main(m.Run))
}

// helper runs itself again in a user namespace, whatever its privileges are,
// and there does what mode says.
func helper(mode string) int {
	if !InUserNamespace() {
		code, err := rerun()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}
	return Main(func() int { return inner(mode) })
}
