// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"flag"
	"os"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// runEnv makes the test binary act as nftproxy.
const runEnv = "NFTPROXY_E2E_RUN"

// onlyEnv makes the test binary run only the tests that it names, as -run does.
const onlyEnv = "NFTPROXY_E2E_ONLY"

// Tests wait more than they compute: more of them than CPUs run side by side. With all of their sockets a process must
// stay below 1024 descriptors: package nftables waits with select(2).
const sideBySide = "6"

func TestMain(m *testing.M) {
	if os.Getenv(runEnv) != "" {
		os.Exit(app.Main("test"))
	}
	flag.Parse()
	explicit := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { explicit[f.Name] = true })
	if !explicit["test.parallel"] {
		_ = flag.Set("test.parallel", sideBySide)
	}
	if only := os.Getenv(onlyEnv); only != "" {
		_ = flag.Set("test.run", only)
	}
	os.Exit(netns.Main(m.Run))
}

// All works the same in a user namespace; a few tests show it.
func TestUnprivileged(t *testing.T) {
	t.Setenv(onlyEnv, "^(TestEndpoints|TestStaleFlows|TestCleanup)$")
	netnstest.AsOrdinaryUser(t, "TestEndpoints", "TestStaleFlows", "TestCleanup")
}
