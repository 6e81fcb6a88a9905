// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/internal/cputime"
	"github.com/nftproxy/nftproxy/rules"
)

const crowdServices = 1000

func service(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 53)
}

// crowd returns n UDP flows to as many different clients, spread over services.
func crowd(n int) []Flow {
	out := make([]Flow, n)
	to := ap("10.2.0.1:5353")
	for i := range out {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 16), byte(i >> 8)}), uint16(1024+i%256))
		out[i] = Flow{Protocol: rules.UDP, Orig: Tuple{client, service(i % crowdServices)}, Reply: Tuple{to, client}}
	}
	return out
}

func bigTable(b *testing.B, n int) *Conn {
	b.Helper()
	c := open(b)
	if u, err := c.Usage(b.Context()); err == nil && u.Max != 0 && int(u.Max) < n {
		b.Skipf("net.netfilter.nf_conntrack_max is %d, the benchmark needs %d", u.Max, n)
	}
	inject(b, c, 0, crowd(n)...)
	return c
}

func BenchmarkList(b *testing.B) {
	for _, n := range []int{0, 10_000, 100_000} {
		c := bigTable(b, n)
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			for b.Loop() {
				got, err := c.List(b.Context(), rules.Frontend{Addr: service(7).Addr(), Protocol: rules.UDP, Port: 53})
				if err != nil || len(got) != n/crowdServices {
					b.Fatalf("listed %d, want %d: %v", len(got), n/crowdServices, err)
				}
			}
		})
	}
}

// BenchmarkDump compares what maxFilteredDumps weighs up: a dump for one frontend,
// and one for all frontends of a protocol.
func BenchmarkDump(b *testing.B) {
	const n = 100_000
	c := bigTable(b, n)
	one := queries(rules.Frontend{Addr: service(7).Addr(), Protocol: rules.UDP, Port: 53})[0]
	for name, q := range map[string]query{"one": one, "protocol": {family: one.family, proto: rules.UDP}} {
		b.Run(name, func(b *testing.B) {
			var targets []Target
			for i := range crowdServices {
				targets = append(targets, Target{Frontend: rules.Frontend{Addr: service(i).Addr(), Protocol: rules.UDP, Port: 53}, Endpoints: aps("10.2.0.1:5353")})
			}
			index := newIndex(targets)
			for b.Loop() {
				err := c.dump(b.Context(), q, func(f Flow) {
					if index.stale(f) {
						b.Errorf("%s is stale", f)
					}
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkClean deletes all flows to one of many services.
func BenchmarkClean(b *testing.B) {
	const n = 100_000
	c := bigTable(b, n)
	target := Target{Frontend: rules.Frontend{Addr: service(7).Addr(), Protocol: rules.UDP, Port: 53}}
	var own []Flow
	for i, f := range crowd(n) {
		if i%crowdServices == 7 {
			own = append(own, f)
		}
	}
	for b.Loop() {
		if got, err := c.Clean(b.Context(), []Target{target}, nil); err != nil || got.V4 != len(own) {
			b.Fatalf("deleted %v, want %d: %v", got, len(own), err)
		}
		b.StopTimer()
		inject(b, c, 0, own...)
		b.StartTimer()
	}
}

// BenchmarkCleanTCP frees one connection without an answer, whose endpoint is gone, among many
// established ones: in one filtered dump, and where the table is large in one that is not filtered.
func BenchmarkCleanTCP(b *testing.B) {
	for _, n := range []int{10_000, largeTable - 1000, 100_000, 250_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			established := crowd(n)
			for i := range established {
				established[i].Protocol, established[i].Status = rules.TCP, StatusSeenReply
			}
			c := bigTable(b, 0)
			if u, err := c.Usage(b.Context()); err == nil && u.Max != 0 && int(u.Max) < n {
				b.Skipf("net.netfilter.nf_conntrack_max is %d, the benchmark needs %d", u.Max, n)
			}
			inject(b, c, 0, established...)
			client := ap("10.3.0.1:7")
			waiting := Flow{Protocol: rules.TCP, Orig: Tuple{client, service(7)}, Reply: Tuple{ap("10.2.0.9:5353"), client}}
			target := Target{Frontend: rules.Frontend{Addr: service(7).Addr(), Protocol: rules.TCP, Port: 53}, Endpoints: aps("10.2.0.1:5353")}
			for b.Loop() {
				b.StopTimer()
				inject(b, c, 0, waiting)
				b.StartTimer()
				if got, err := c.Clean(b.Context(), []Target{target}, nil); err != nil || got.V4 != 1 {
					b.Fatalf("deleted %v, want 1: %v", got, err)
				}
			}
		})
	}
}

// BenchmarkCleanSmall looks through a table of few entries where nothing is stale, in each way: most of what that costs is
// the kernel's hash table.
func BenchmarkCleanSmall(b *testing.B) {
	for _, n := range []int{1, 100, 500, listingMost, 2 * listingMost, 4 * listingMost} {
		for name, way := range map[string]look{"filtered": lookFiltered, "text": lookListed} {
			b.Run(fmt.Sprintf("entries=%d/%s", n, name), func(b *testing.B) {
				c := bigTable(b, n)
				target := Target{Frontend: rules.Frontend{Addr: service(7).Addr(), Protocol: rules.UDP, Port: 53}, Endpoints: aps("10.2.0.1:5353")}
				busy := cputime.Of(func() {
					for b.Loop() {
						if _, err := c.clean(b.Context(), []Target{target}, nil, way); err != nil {
							b.Fatal(err)
						}
					}
				})
				b.ReportMetric(float64(busy.Microseconds())/float64(b.N), "cpu-us/op")
			})
		}
	}
}
