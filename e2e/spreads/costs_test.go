// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"bufio"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

var costs = flag.Bool("costs", false, "measure what each scheduler costs: the kernel's memory, the time to load, and the time of a new connection")

// kind is a scheduler with or without weights.
type kind struct {
	name    string
	s       rules.Scheduler
	size    uint16
	weights bool
}

func kinds() []kind {
	return []kind{{"round-robin", rules.RoundRobin, 0, false}, {"round-robin, weights 1 to 10", rules.RoundRobin, 0, true},
		{"random", rules.Random, 0, false}, {"random, weights 1 to 10", rules.Random, 0, true}, {"source-hash", rules.SourceHash, 0, false},
		{"client-hash", rules.ClientHash, 0, false}, {"maglev, 251 slots", rules.Maglev, 251, false}, {"maglev, 1021 slots", rules.Maglev, 1021, false},
		{"least-connections", rules.LeastConnections, 0, false}}
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

// TestCosts prints a table of what each scheduler costs.
func TestCosts(t *testing.T) {
	if !*costs {
		t.Skip("measures for a minute: give -costs")
	}
	const services = 1000
	ratios := latencies(t)
	t.Log("\n| scheduler | elements a Service | kernel memory a Service | load of 1,000 Services | new connection |\n|---|---|---|---|---|")
	for i, k := range kinds() {
		var memory, load []float64
		elements := 0
		for range 3 {
			n := newNode(t, "node")
			list := make([]rules.Owned, services)
			for i := range list {
				list[i] = k.service(i)
			}
			tx := n.desired.Update(list)
			elements = tx.Elements() / services
			before, start := slab(t), time.Now()
			n.must(n.kernel.Apply(tx))
			load = append(load, time.Since(start).Seconds())
			memory = append(memory, float64(slab(t)-before)/services)
			_, err := n.kernel.Remove(rules.DefaultTable)
			n.must(err)
		}
		slices.Sort(memory)
		slices.Sort(load)
		t.Logf("| %s | %d | %.1f KiB | %.2f s | %s |", k.name, elements, memory[1], load[0], ratios[i])
	}
}

// slab returns the kernel's memory for objects, in KiB.
func slab(t *testing.T) int {
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

// latencies returns what the first packet of a flow costs for each kind, compared with the first: the CPU time of sending it, which
// goes through the rules, by turns. The median of many rounds counts.
func latencies(t *testing.T) []string {
	const rounds, each = 61, 300
	list := kinds()
	n := newNode(t, "node")
	var owned []rules.Owned
	for i, k := range list {
		owned = append(owned, k.service(i))
	}
	n.must(n.kernel.Apply(n.desired.Update(owned)))
	times := make([][]float64, len(list))
	next := 0
	n.must(n.ns.Do(func() error {
		for range rounds {
			for i := range list {
				to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), 80)
				took := time.Duration(0)
				for range each {
					from := flow(rules.IPv4, next)
					next++
					start := cpu()
					if err := send(from, to); err != nil {
						return err
					}
					took += cpu() - start
				}
				times[i] = append(times[i], float64(took)/each)
			}
		}
		return nil
	}))
	out := make([]string, len(list))
	for i := range list {
		ratios := make([]float64, rounds)
		for r := range ratios {
			ratios[r] = times[i][r] / times[0][r]
		}
		slices.Sort(ratios)
		slices.Sort(times[i])
		out[i] = fmt.Sprintf("%+.1f %% (%.1f µs)", 100*(ratios[rounds/2]-1), times[i][rounds/2]/1000)
	}
	return out
}

func cpu() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}
