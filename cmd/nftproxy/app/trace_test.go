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
	for _, tt := range []struct {
		chain         string
		outcome       story.Outcome
		text, because string
	}{
		{"no-endpoints", story.Rejected, "refused: there is no endpoint, or no such port", "no-endpoint"},
		{"no-local-endpoints", story.Dropped, "dropped: the traffic policy is Local and no endpoint is on this node", "no-local-endpoint"},
		{"firewall/default/web/http", story.Dropped, "dropped: loadBalancerSourceRanges do not let the client in", "by-source-ranges"},
		{"postrouting", story.Dropped, "dropped: no Service has this address of a ServiceCIDR", "no-such-cluster-ip"},
		{"mine\x1b[31m", story.Dropped, `dropped in chain mine\x1b[31m`, "unknown-chain"},
	} {
		s := &story.Story{Outcome: tt.outcome, By: &story.Place{Family: "ip", Table: "nftproxy", Chain: tt.chain, Rule: 7}}
		teller := &teller{table: "nftproxy", rejects: func(story.Place) bool { return false },
			nameAt: func(rules.Frontend) (rules.ServicePortName, bool) { return rules.ServicePortName{}, false }}
		line := teller.line(s, false)
		if line.Text != tt.text || line.Reason.String() != tt.because {
			t.Errorf("%q: %q because of %s, want %q because of %s", tt.chain, line.Text, line.Reason, tt.text, tt.because)
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
