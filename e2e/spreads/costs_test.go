// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/internal/cputime"
	"github.com/nftproxy/nftproxy/rules"
)

// kind is a scheduler with or without weights.
type kind struct {
	name     string
	s        rules.Scheduler
	size     uint16
	weights  bool
	elements int // of a Service
}

func kinds() []kind {
	return []kind{{"round-robin", rules.RoundRobin, 0, false, 12}, {"round-robin-weighted", rules.RoundRobin, 0, true, 57},
		{"random", rules.Random, 0, false, 12}, {"random-weighted", rules.Random, 0, true, 57}, {"source-hash", rules.SourceHash, 0, false, 12},
		{"client-hash", rules.ClientHash, 0, false, 12}, {"maglev-251", rules.Maglev, 251, false, 253}, {"maglev-1021", rules.Maglev, 1021, false, 1023},
		{"least-connections", rules.LeastConnections, 0, false, 130}}
}

// service returns the i-th Service of a kind with ten endpoints.
func (k kind) service(i int) rules.Owned {
	sp := servicePort(fmt.Sprint("web-", i), k.s, rules.UDP, rules.IPv4)
	sp.ClusterIP, sp.TableSize = netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), k.size
	list := endpoints(rules.IPv4, slices.Repeat([]uint32{1}, 10)...)
	for j := range list {
		if k.weights {
			list[j].Weight = uint32(j + 1)
		}
	}
	return rules.Owned{Owner: rules.Owner{ServicePortName: sp.Name}, Objects: rules.Build(sp, list, rules.Config{}.WithDefaults(), rules.Node{Name: "node"})}
}

// services returns many of them.
func (k kind) services(n int) []rules.Owned {
	list := make([]rules.Owned, n)
	for i := range list {
		list[i] = k.service(i)
	}
	return list
}

// TestElements: what a Service of each scheduler takes in the kernel, in elements. Memory and the time to load go with it.
func TestElements(t *testing.T) {
	for _, k := range kinds() {
		const services = 20 // chains and maps that all share count little
		d := rules.NewDesired(rules.Config{}, rules.Node{Name: "node"})
		tx := d.Update(k.services(services))
		if got := tx.Elements() / services; got != k.elements {
			t.Errorf("%s: %d elements a Service, want %d", k.name, got, k.elements)
		}
	}
}

// BenchmarkLoad loads 1,000 Services of each scheduler, with the CPU time that it takes, and the kernel's memory for a Service. With no
// other processes, as the memory is that of the whole kernel.
func BenchmarkLoad(b *testing.B) {
	const services = 1000
	for _, k := range kinds() {
		b.Run(k.name, func(b *testing.B) {
			var memory, load float64
			for b.Loop() {
				n := newNode(b, "node")
				tx := n.desired.Update(k.services(services))
				before := slab(b)
				load += cputime.Of(func() { n.must(n.kernel.Apply(tx)) }).Seconds() // others may use the machine
				memory += float64(slab(b)-before) / services
				_, err := n.kernel.Remove(rules.DefaultTable)
				n.must(err)
			}
			b.ReportMetric(load/float64(b.N), "cpu-s/load")
			b.ReportMetric(memory/float64(b.N), "KiB/Service")
			b.ReportMetric(float64(k.elements), "elements/Service")
		})
	}
}

// slab returns the kernel's memory for objects, in KiB.
func slab(t testing.TB) int {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		var n int
		for _, name := range []string{"Slab:", "Percpu:", "VmallocUsed:"} {
			if rest, ok := strings.CutPrefix(s.Text(), name); ok {
				if _, err := fmt.Sscan(rest, &n); err != nil {
					t.Fatal(err)
				}
				sum += n
			}
		}
	}
	return sum
}

// BenchmarkConnection measures what the first packet of a flow costs with each scheduler: the CPU time of sending it, which goes through
// the rules. All take turns in each round, as a machine is faster at one time than at another; the median of the rounds counts, in
// microseconds and in percent above round robin.
func BenchmarkConnection(b *testing.B) {
	const each = 300
	list := kinds()
	n := newNode(b, "node")
	var owned []rules.Owned
	for i, k := range list {
		owned = append(owned, k.service(i))
	}
	n.must(n.kernel.Apply(n.desired.Update(owned)))
	times, next := make([][]float64, len(list)), 0
	n.must(n.ns.Do(func() error {
		for b.Loop() {
			for i := range list {
				to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), 80)
				took := time.Duration(0)
				for range each {
					from := flow(rules.IPv4, next)
					next++
					var err error
					if took += cputime.Of(func() { err = send(from, to, 0) }); err != nil {
						return err
					}
				}
				times[i] = append(times[i], float64(took)/each)
			}
		}
		return nil
	}))
	for i, k := range list {
		ratios := make([]float64, len(times[i]))
		for r := range ratios {
			ratios[r] = 100 * (times[i][r]/times[0][r] - 1)
		}
		slices.Sort(ratios)
		slices.Sort(times[i])
		b.ReportMetric(times[i][len(ratios)/2]/1000, "µs/"+k.name)
		if i > 0 {
			b.ReportMetric(ratios[len(ratios)/2], "%/"+k.name)
		}
	}
}
