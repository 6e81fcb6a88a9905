// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// markWatch is another program's table on the node: it marks all packets before
// nftproxy sees them and counts the marks afterwards.
type markWatch struct {
	conn  *nftables.Conn
	table *nftables.Table
	last  *nftables.Chain
}

func newMarkWatch(t *testing.T, w *world, f netns.Family, mark uint32) markWatch {
	t.Helper()
	family := nftables.TableFamilyIPv4
	if f == netns.IPv6 {
		family = nftables.TableFamilyIPv6
	}
	m := markWatch{conn: w.nft(t)}
	m.table = m.conn.AddTable(&nftables.Table{Name: "another", Family: family})
	chain := func(name string, hook *nftables.ChainHook, kind nftables.ChainType, priority nftables.ChainPriority) *nftables.Chain {
		return m.conn.AddChain(&nftables.Chain{Name: name, Table: m.table, Type: kind, Hooknum: hook, Priority: &priority})
	}
	rule := func(c *nftables.Chain, exprs ...expr.Any) {
		m.conn.AddRule(&nftables.Rule{Table: m.table, Chain: c, Exprs: exprs})
	}
	value := binaryutil.NativeEndian.PutUint32(mark)
	for _, c := range []*nftables.Chain{
		chain("arriving", nftables.ChainHookPrerouting, nftables.ChainTypeFilter, -150),
		chain("sent", nftables.ChainHookOutput, nftables.ChainTypeRoute, -150),
	} {
		rule(c, &expr.Immediate{Register: 1, Data: value}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1})
	}
	m.last = chain("leaving", nftables.ChainHookPostrouting, nftables.ChainTypeFilter, 300)
	for _, op := range []expr.CmpOp{expr.CmpOpEq, expr.CmpOpNeq} {
		rule(m.last, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: value}, &expr.Counter{})
	}
	if err := m.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return m
}

// count returns how many packets left with the mark and how many with another one.
func (m markWatch) count(t *testing.T) (kept, changed uint64) {
	t.Helper()
	list, err := m.conn.GetRules(m.table, m.last)
	if err != nil || len(list) != 2 {
		t.Fatalf("read counters: %v, %d rules", err, len(list))
	}
	var n [2]uint64
	for i, r := range list {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				n[i] = c.Packets
			}
		}
	}
	return n[0], n[1]
}
