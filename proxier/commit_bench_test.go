// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// taking is a kernel that takes every transaction.
type taking struct{}

func (taking) Read(string) (rules.State, error)              { return rules.State{}, nil }
func (taking) Scan(string, []rules.Thing, rules.Parts) error { return nil }
func (taking) Apply(rules.Tx) error                          { return nil }

// BenchmarkCommit replaces one of a Service's endpoints, as far as the kernel.
func BenchmarkCommit(b *testing.B) {
	for _, endpoints := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(endpoints), func(b *testing.B) {
			p := newProgrammer(taking{}, rules.Config{}.WithDefaults())
			build := func(last int) []rules.Owned {
				sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: "web", Port: "http"},
					Protocol: rules.TCP, ClusterIP: netip.MustParseAddr("10.96.0.1"), Port: 80}
				list := make([]rules.Endpoint, endpoints)
				for i := range list {
					list[i] = rules.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 8080), Ready: true}
				}
				list[endpoints-1].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(last)}), 8080)
				return []rules.Owned{{Owner: rules.Owner{ServicePortName: sp.Name}, Objects: rules.Build(sp, list, p.config, rules.Node{})}}
			}
			two := [2][]rules.Owned{build(1), build(2)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := p.commit(rules.Node{}, two[i%2], nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
