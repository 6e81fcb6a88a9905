// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns_test

import (
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

func TestUnprivileged(t *testing.T) {
	netnstest.AsOrdinaryUser(t, "TestCluster", "TestBindKeepsName", "TestRerunPassesSignals")
}
