// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// actEnv makes the test binary act as nftproxy if it is to run, else as the demo.
const actEnv = "NFTPROXY_DEMO_ACT"

// self is the test binary; by this name an ordinary user can run it, too.
const self = "/proc/self/exe"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(actEnv) == "":
		os.Exit(netns.Main(m.Run))
	case len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-"):
		os.Exit(app.Main("test"))
	}
	main()
}

func TestUnprivileged(t *testing.T) {
	netnstest.AsOrdinaryUser(t, "TestShow", "TestWrong", "TestSignals")
}
