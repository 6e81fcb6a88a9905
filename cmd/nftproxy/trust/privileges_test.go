// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trust

import (
	"os"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// TestUnprivileged runs everything in a user namespace, where root's directories are those of
// somebody unknown.
func TestUnprivileged(t *testing.T) {
	netnstest.AsOrdinaryUser(t, "TestFile", "TestFind", "TestReadOnlyMount")
}
