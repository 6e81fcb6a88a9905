// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
)

// What another program does to the tables is undone at once, and no more than that:
// round robin of services that were not touched goes on.
func TestRepair(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--own-tables=never"}})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	touched := w.service("touched").to(ready(a, b))
	single := w.service("single").to(ready(c))
	calm := w.service("calm").to(ready(a, b, c))
	w.apply(t, touched, single, calm)
	calmOnes := cyclesOf(calm, w.Client, a, b, c)
	want := w.state(t)
	for _, r := range vandalism(t, w, touched, single) {
		t.Run(r.name, func(t *testing.T) {
			turnAll(t, 1, calmOnes)
			if err := r.do(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "repair", func() error {
				if tx := rules.Diff(w.state(t), want); tx.Len() != 0 {
					return fmt.Errorf("%d operations remain", tx.Len())
				}
				return nil
			})
			w.wantEverywhere(t, touched, spread(a, b))
			w.wantEverywhere(t, single, spread(c))
			if r.all { // counters went with the tables
				calmOnes = cyclesOf(calm, w.Client, a, b, c)
			}
			turnAll(t, 3, calmOnes)
			checkAll(t, calmOnes)
			w.wantLog(t, "Repaired the kernel's tables")
		})
	}
}

// vandal is what another program does to the tables.
type vandal struct {
	name string
	do   func() error
	all  bool // services that were not meant are touched
}

func vandalism(t *testing.T, w *world, touched, single *svc) []vandal {
	k, conn := w.kernel(t), w.nft(t)
	apply := func(op func(f rules.Family) rules.Op) error {
		tx := rules.Tx{Name: rules.DefaultTable}
		for _, f := range rules.Families {
			tx.Add(op(f))
		}
		return k.Apply(tx)
	}
	key := func(s *svc, f rules.Family) rules.Key {
		return rules.Key{Addr: s.at(netns.Families()[f], 0).Addr(), Protocol: rules.TCP, Port: servicePort}
	}
	return []vandal{
		{"both tables deleted", func() error { _, err := k.Remove(rules.DefaultTable); return err }, true},
		{"the whole ruleset flushed", func() error { conn.FlushRuleset(); return conn.Flush() }, true},
		{"an element of a verdict map deleted", func() error {
			return apply(func(f rules.Family) rules.Op {
				return rules.Op{Kind: rules.DeleteElements, Family: f, Set: rules.SetID{Kind: rules.ServiceIPs},
					Elements: []rules.Element{{Key: key(touched, f)}}}
			})
		}, false},
		{"an endpoint replaced", func() error {
			return apply(func(f rules.Family) rules.Op {
				to := w.RemotePods[2].Addr(netns.Families()[f])
				e := rules.Element{Key: key(single, f)}
				e.To = netip.AddrPortFrom(to, backendPort)
				return rules.Op{Kind: rules.ReplaceElements, Family: f, Set: rules.SetID{Kind: rules.Single}, Elements: []rules.Element{e}}
			})
		}, false},
		{"an element added", func() error {
			return apply(func(f rules.Family) rules.Op {
				return rules.Op{Kind: rules.AddElements, Family: f, Set: rules.SetID{Kind: rules.ClusterIPs},
					Elements: []rules.Element{{Key: rules.Key{Addr: w.Outside.Addr(netns.Families()[f])}}}}
			})
		}, false},
		{"the rules of a service's chain deleted", inTables(conn, func(table *nftables.Table) {
			conn.FlushChain(&nftables.Chain{Table: table, Name: "service/test/touched/tcp"})
		}), false},
		{"the rules of a shared chain deleted", inTables(conn, func(table *nftables.Table) {
			conn.FlushChain(&nftables.Chain{Table: table, Name: "services"})
		}), false},
		{"the hooked chains deleted", inTables(conn, func(table *nftables.Table) {
			for _, name := range []string{"prerouting", "output", "postrouting"} {
				conn.DelChain(&nftables.Chain{Table: table, Name: name})
			}
		}), false},
		{"a rule that drops added", inTables(conn, func(table *nftables.Table) {
			conn.InsertRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Table: table, Name: "services"},
				Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
		}), false},
		{"a hooked chain that drops added", inTables(conn, func(table *nftables.Table) {
			drop := nftables.ChainPolicyDrop
			conn.AddChain(&nftables.Chain{Name: "evil", Table: table, Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw, Policy: &drop})
		}), false},
		{"a map deleted with the rules that use it", inTables(conn, func(table *nftables.Table) {
			conn.FlushChain(&nftables.Chain{Table: table, Name: "services"})
			conn.DelSet(&nftables.Set{Table: table, Name: "single"})
		}), false},
	}
}

// inTables does something to both of nftproxy's tables, in one transaction.
func inTables(conn *nftables.Conn, do func(*nftables.Table)) func() error {
	return func() error {
		for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
			do(&nftables.Table{Name: rules.DefaultTable, Family: family})
		}
		return conn.Flush()
	}
}

// Other programs' tables are left alone.
func TestOthersTablesStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.applied(t, w.service("web").to(ready(w.Local...)))
	conn := w.nft(t)
	conn.AddTable(&nftables.Table{Name: "another", Family: nftables.TableFamilyINet})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	w.apply(t, s.to(ready(w.RemotePods...)))
	for _, do := range []func(){
		func() { w.stop(t) },
		func() { w.start(t) },
		func() { w.stop(t) },
		func() { w.run(t, "cleanup") },
	} {
		do()
		tables, err := conn.ListTables()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == "another" }) {
			t.Fatal("another program's table is gone")
		}
	}
	w.want(t, w.Client, traffic.TCP, s.at(netns.IPv4, servicePort), dropped())
}
