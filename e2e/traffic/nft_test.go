// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// ruleset adds a few static rules of one family to a namespace.
type ruleset struct {
	conn   *nftables.Conn
	table  *nftables.Table
	family netns.Family
}

func newRuleset(t *testing.T, n *netns.NS, f netns.Family) ruleset {
	t.Helper()
	conn := netnstest.NFTables(t, n)
	family := nftables.TableFamilyIPv4
	if f == netns.IPv6 {
		family = nftables.TableFamilyIPv6
	}
	return ruleset{conn, conn.AddTable(&nftables.Table{Name: "test", Family: family}), f}
}

func (r ruleset) commit(t *testing.T) {
	t.Helper()
	if err := r.conn.Flush(); err != nil {
		t.Fatalf("load %s rules: %v", r.family, err)
	}
}

func (r ruleset) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	return r.conn.AddChain(&nftables.Chain{Name: name, Table: r.table, Type: kind, Hooknum: hook, Priority: &priority})
}

// destination returns the two chains that see packets before they are routed.
func (r ruleset) destination() []*nftables.Chain {
	return []*nftables.Chain{
		r.chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100),
		r.chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100),
	}
}

func (r ruleset) rule(chains []*nftables.Chain, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	for _, c := range chains {
		r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: exprs})
	}
}

func (r ruleset) address(a netip.Addr, offset4, offset6 uint32) []expr.Any {
	offset := offset4
	if a.Is6() {
		offset = offset6
	}
	return match(expr.PayloadBaseNetworkHeader, offset, a.AsSlice())
}

// to matches packets to an address, port and protocol.
func (r ruleset) to(p Protocol, a netip.AddrPort) []expr.Any {
	exprs := r.address(a.Addr(), 16, 24)
	exprs = append(exprs, protocol(p)...)
	return append(exprs, match(expr.PayloadBaseTransportHeader, 2, binaryutil.BigEndian.PutUint16(a.Port()))...)
}

func (r ruleset) from(a netip.Addr) []expr.Any { return r.address(a, 12, 8) }

func (r ruleset) dnat(to netip.AddrPort) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(r.table.Family), RegAddrMin: 1, RegProtoMin: 2},
	}
}

// refuse answers so that clients take it for a refusal: TCP with a reset, SCTP with ICMP protocol unreachable
// where there is such a thing, others with port unreachable.
func (r ruleset) refuse(p Protocol) []expr.Any {
	switch {
	case p == TCP:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	case p == SCTP && r.family == netns.IPv4:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 2}}
	}
	return r.unreachable()
}

// unreachable answers with ICMP port unreachable.
func (r ruleset) unreachable() []expr.Any {
	code := uint8(3)
	if r.family == netns.IPv6 {
		code = 4
	}
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}
}

func protocol(p Protocol) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(p)}},
	}
}

func match(base expr.PayloadBase, offset uint32, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(value))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value},
	}
}

// syn matches the first packet of a TCP connection.
func syn() []expr.Any {
	const flags = 13 // offset in the header
	return match(expr.PayloadBaseTransportHeader, flags, []byte{0x02})
}

// spoil overwrites four bytes of the transport packet, and no checksum.
func spoil(offset uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{1, 2, 3, 4}},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 4},
	}
}
