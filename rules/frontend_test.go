// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// TestFrontendKeys: a frontend is found again by the key that it has in a set of its family's table.
func TestFrontendKeys(t *testing.T) {
	for _, f := range rules.Families {
		address := rules.FrontendAt(netip.AddrPortFrom(addr(f), 53), rules.UDP)
		for text, frontend := range map[string]rules.Frontend{
			address.At().String() + "/udp": address, "NodePort 30080/tcp": rules.NodePort(f, rules.TCP, 30080),
		} {
			if got := frontend.Key().Frontend(f); got != frontend || got.String() != text {
				t.Errorf("%s: key %+v is of %s, want %s", f, frontend.Key(), got, text)
			}
			if frontend.NodePort() != rules.NodePort(f, frontend.Protocol, frontend.Port) {
				t.Errorf("%s: its NodePort is %s", frontend, frontend.NodePort())
			}
		}
	}
}

func addr(f rules.Family) netip.Addr {
	return map[rules.Family]netip.Addr{rules.IPv4: netip.MustParseAddr("10.96.0.10"), rules.IPv6: netip.MustParseAddr("fd00:96::10")}[f]
}

func TestParseProtocol(t *testing.T) {
	for _, want := range rules.AllProtocols {
		if got, err := rules.ParseProtocol(want.String()); got != want || err != nil {
			t.Errorf("%s: %s, %v", want, got, err)
		}
	}
	if got, err := rules.ParseProtocol("SCTP"); got != rules.SCTP || err != nil {
		t.Errorf("SCTP: %s, %v", got, err)
	}
	if _, err := rules.ParseProtocol("icmp"); err == nil || err.Error() != `"icmp" is none of tcp, udp, sctp` {
		t.Errorf("icmp: %v", err)
	}
}
