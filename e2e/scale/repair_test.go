// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
)

// BenchmarkRepair says how long it takes, and how much CPU, until what another program does to tables that nobody owns is undone:
// from the end of its commit to the end of ours.
func BenchmarkRepair(b *testing.B) {
	table := &nftables.Table{Name: rules.DefaultTable, Family: nftables.TableFamilyIPv4}
	chainOf := func(i int) *nftables.Chain {
		return &nftables.Chain{Table: table, Name: fmt.Sprintf("service/team-%d/web-%d/http", i%100, i)}
	}
	n := newNode(b)
	n.load(large)
	for _, row := range []struct {
		name   string
		tamper func(c *nftables.Conn, i int) error
	}{
		{"element added", func(c *nftables.Conn, i int) error {
			return c.SetAddElements(&nftables.Set{Table: table, Name: "cluster-ips"}, []nftables.SetElement{{Key: address(1, i).AsSlice()}})
		}},
		{"element deleted", func(c *nftables.Conn, i int) error {
			return c.SetDeleteElements(&nftables.Set{Table: table, Name: "cluster-ips"}, []nftables.SetElement{{Key: address(96, i).AsSlice()}})
		}},
		{"chain added", func(c *nftables.Conn, i int) error {
			c.AddChain(&nftables.Chain{Table: table, Name: fmt.Sprintf("theirs-%d", i)})
			return nil
		}},
		{"rule added", func(c *nftables.Conn, i int) error {
			c.AddRule(&nftables.Rule{Table: table, Chain: chainOf(i), Exprs: []expr.Any{&expr.Counter{}}})
			return nil
		}},
		{"rules deleted", func(c *nftables.Conn, i int) error {
			c.FlushChain(chainOf(1000 + i))
			return nil
		}},
	} {
		b.Run(row.name, func(b *testing.B) {
			var all, cpu []time.Duration
			for i := 0; b.Loop(); i++ {
				time.Sleep(1100 * time.Millisecond) // the pace of repairs that come one after the other
				n.quiet()
				start, used := n.foreign(func(c *nftables.Conn) error { return row.tamper(c, i) })
				n.transaction()
				all, cpu = append(all, time.Since(start)), append(cpu, cpuTime(b)-used)
			}
			report(b, all)
			b.ReportMetric(mean(cpu)/1e6, "cpu-ms")
		})
	}
	n.close()
}

// BenchmarkFlush says how long it takes until all is back after a flush of the whole ruleset, and how that compares with the kernel's
// own time for the load.
func BenchmarkFlush(b *testing.B) {
	var all, floors []time.Duration
	for b.Loop() {
		n := newNode(b)
		n.load(large)
		want := n.read()
		start, _ := n.foreign(func(c *nftables.Conn) error { c.FlushRuleset(); return nil })
		for elements := 0; elements < 100000; {
			tx := n.transaction()
			elements += tx.Elements()
		}
		took := time.Since(start)
		for wait := time.Now(); ; {
			if tx := rules.Diff(n.read(), want); tx.Len() == 0 {
				break
			}
			if time.Since(wait) > deadline {
				b.Fatal("not all is back")
			}
		}
		n.close()
		all, floors = append(all, took), append(floors, floor(b, want))
	}
	report(b, all)
	b.ReportMetric(mean(floors)/1e6, "floor-ms")
	b.ReportMetric(mean(all)/mean(floors), "flush/floor")
}

// foreign changes the ruleset as another program does. It returns when that was done, and how much CPU this process had used until then.
func (n *node) foreign(do func(*nftables.Conn) error) (time.Time, time.Duration) {
	n.b.Helper()
	c := netnstest.NFTables(n.b, n.ns)
	if err := do(c); err != nil {
		n.b.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		n.b.Fatal(err)
	}
	return time.Now(), cpuTime(n.b)
}
