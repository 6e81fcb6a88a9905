// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netnstest

import (
	"testing"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/nfconn"
)

// NFTables returns a connection to a namespace's nftables, as nfconn.New does.
func NFTables(t testing.TB, n *netns.NS) *nftables.Conn {
	t.Helper()
	c, err := nfconn.New(n)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// LastingNFTables is NFTables with one socket until the test ends.
func LastingNFTables(t testing.TB, n *netns.NS) *nftables.Conn {
	t.Helper()
	c, closeSocket, err := nfconn.Lasting(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeSocket)
	return c
}
