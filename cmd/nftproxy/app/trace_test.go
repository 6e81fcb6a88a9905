// SPDX-License-Identifier: Apache-2.0

package app

import (
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/story"
	"github.com/nftproxy/nftproxy/rules"
)

// TestWhyDropped: the chain that ends a packet tells why.
func TestWhyDropped(t *testing.T) {
	for chain, want := range map[string]string{
		"no-endpoints":              "refused: there is no endpoint, or no such port",
		"no-local-endpoints":        "dropped: the traffic policy is Local and no endpoint is on this node",
		"firewall/default/web/http": "dropped: the client is in none of loadBalancerSourceRanges",
		"postrouting":               "dropped: no Service has this address of a ServiceCIDR",
		"mine\x1b[31m":              `dropped in chain mine\x1b[31m`,
	} {
		if got := whyDropped(chain); got != want {
			t.Errorf("%q: %q, want %q", chain, got, want)
		}
	}
}

// TestSentAgainText: a packet that met the chain of failover says so, with the endpoint that did not answer.
func TestSentAgainText(t *testing.T) {
	s := &story.Story{Outcome: story.NoAnswer, Steps: []story.Step{{Family: "ip", Table: "nftproxy", Chain: rules.ChainFailover.Chain()}}}
	s.Now.Dst = netip.MustParseAddrPort("10.244.2.3:8080")
	if got, want := (&teller{table: "nftproxy"}).outcome(s, colours{}), "sent again: no answer from endpoint 10.244.2.3:8080"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
