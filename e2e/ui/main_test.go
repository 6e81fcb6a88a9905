// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ui

import (
	"os"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

// runEnv makes the test binary act as nftproxy.
const runEnv = "NFTPROXY_E2E_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runEnv) != "" {
		os.Exit(app.Main("test"))
	}
	os.Exit(netns.Main(m.Run))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
