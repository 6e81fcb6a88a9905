// SPDX-License-Identifier: Apache-2.0

package app

import "testing"

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
