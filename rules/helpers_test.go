// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// servicePort returns the service port web:NAME at an address and port.
func servicePort(name string, p rules.Protocol, frontend string) rules.ServicePort {
	ap := netip.MustParseAddrPort(frontend)
	return rules.ServicePort{
		Name:   rules.ServicePortName{Namespace: "default", Name: "web", Port: name},
		Family: rules.FamilyOf(ap.Addr()), Protocol: p, ClusterIP: ap.Addr(), Port: ap.Port(),
	}
}

func owner(sp rules.ServicePort) rules.Owner {
	return rules.Owner{ServicePortName: sp.Name, Family: sp.Family}
}

// ready returns ready endpoints on other nodes.
func ready(addrs ...string) []rules.Endpoint {
	var out []rules.Endpoint
	for _, a := range addrs {
		out = append(out, rules.Endpoint{Addr: netip.MustParseAddrPort(a), Ready: true, Serving: true})
	}
	return out
}

// testConfig and testNode are what tests build with that do not care.
var (
	testConfig = rules.Config{PodCIDRs: podCIDRs}.WithDefaults()
	testNode   = rules.Node{
		Name: "node", Zone: "a",
		IPs:         [2]netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00:172:18::2")},
		NodePortIPs: []netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00:172:18::2")},
	}
)

func owned(sp rules.ServicePort, endpoints []rules.Endpoint) rules.Owned {
	return rules.Owned{Owner: owner(sp), Objects: rules.Build(sp, endpoints, testConfig, testNode)}
}

func text(t *testing.T, s rules.State) string {
	t.Helper()
	return written(t, s.WriteText)
}

func written(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b strings.Builder
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
