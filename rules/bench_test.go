// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{10, 1000, 20000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: "web"}, Protocol: rules.TCP,
				ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 80}
			endpoints := make([]rules.Endpoint, n)
			for i := range endpoints {
				x := i * 7919 % n
				endpoints[i] = rules.Endpoint{Ready: true, Serving: true,
					Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(x >> 16), byte(x >> 8), byte(x)}), 8080)}
			}
			for b.Loop() {
				rules.Build(sp, endpoints, rules.Config{}.WithDefaults(), rules.Node{Name: "node-1"})
			}
		})
	}
}
