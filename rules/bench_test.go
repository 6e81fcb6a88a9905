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
			sp, endpoints := crowd(n)
			for b.Loop() {
				rules.Build(sp, endpoints, rules.Config{}.WithDefaults(), rules.Node{Name: "node-1"})
			}
		})
	}
}

// BenchmarkBuildAddresses builds a service port with many external addresses: the time doubles with their number, and
// does not grow with that of the endpoints times theirs.
func BenchmarkBuildAddresses(b *testing.B) {
	for _, scheduler := range []rules.Scheduler{rules.RoundRobin, rules.Random} {
		for _, n := range []int{5000, 10000, 20000} {
			b.Run(fmt.Sprintf("%s/addresses=%d", scheduler, n), func(b *testing.B) {
				sp, endpoints := crowd(100)
				sp.Scheduler = scheduler
				for i := range n {
					sp.ExternalIPs = append(sp.ExternalIPs, netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}))
				}
				for b.Loop() {
					rules.Build(sp, endpoints, rules.Config{}.WithDefaults(), rules.Node{Name: "node-1"})
				}
			})
		}
	}
}

// BenchmarkUpdate replaces an endpoint of a service port with session affinity.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1000, 20000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			sp, endpoints := crowd(n)
			sp.Affinity = 60
			builds := [2][]rules.Owned{{owned(sp, endpoints)}}
			endpoints[n/2].Addr = netip.MustParseAddrPort("10.255.0.1:8080")
			builds[1] = []rules.Owned{owned(sp, endpoints)}
			d := rules.NewDesired(testConfig, testNode)
			i := 0
			for b.Loop() {
				d.Update(builds[i%2])
				i++
			}
		})
	}
}

// crowd returns a service port and n endpoints in no order.
func crowd(n int) (rules.ServicePort, []rules.Endpoint) {
	sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: "web"}, Protocol: rules.TCP,
		ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 80}
	endpoints := make([]rules.Endpoint, n)
	for i := range endpoints {
		x := i * 7919 % n
		endpoints[i] = rules.Endpoint{Ready: true, Serving: true,
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(x >> 16), byte(x >> 8), byte(x)}), 8080)}
	}
	return sp, endpoints
}
