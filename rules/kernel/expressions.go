// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// Every statement is a run of expressions that work on registers. Fields are
// loaded into consecutive 32-bit registers from the first one on.

// dnatBit is IPS_DST_NAT of a connection's status.
const dnatBit = 1 << 5

// register returns the number of the i-th 32-bit register. Where a 128-bit
// register starts at the same place the kernel reports that one's number.
func register(i int) uint32 {
	if i%4 == 0 {
		return uint32(unix.NFT_REG_1 + i/4)
	}
	return uint32(unix.NFT_REG32_00 + i)
}

// words returns how many 32-bit registers an address takes.
func words(f rules.Family) int {
	if f == rules.IPv6 {
		return 4
	}
	return 1
}

func host32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// encode returns the expressions of a statement.
func encode(f rules.Family, s rules.Statement) ([]expr.Any, error) {
	switch s := s.(type) {
	case rules.MatchProtocol:
		return []expr.Any{loadL4(0), equal([]byte{byte(s.Protocol)}, false)}, nil
	case rules.MatchSource:
		return matchPrefix(f, s), nil
	case rules.MatchSet:
		return append(load(f, s.Fields), &expr.Lookup{SourceRegister: register(0), SetName: s.Set.Name()}), nil
	case rules.MatchDNAT:
		return []expr.Any{&expr.Ct{Register: register(0), Key: expr.CtKeySTATUS},
			bitwise(host32(dnatBit), host32(0)), equal(host32(0), true)}, nil
	case rules.MatchMarkUnset:
		return []expr.Any{loadMark(), bitwise(host32(s.Bits), host32(0)), equal(host32(0), false)}, nil
	case rules.SetMark:
		return []expr.Any{loadMark(), bitwise(host32(^s.Bits), host32(s.Bits)), storeMark()}, nil
	case rules.FlipMark:
		return []expr.Any{loadMark(), bitwise(host32(^uint32(0)), host32(s.Bits)), storeMark()}, nil
	case rules.Dispatch:
		return append(load(f, s.Fields), &expr.Lookup{SourceRegister: register(0), SetName: s.Map.Name(), IsDestRegSet: true}), nil
	case rules.DNAT:
		return append(load(f, s.Fields),
			&expr.Lookup{SourceRegister: register(0), SetName: s.Map.Name(), IsDestRegSet: true, DestRegister: register(0)},
			translate(f)), nil
	case rules.Jump:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: s.Chain}}, nil
	case rules.Return:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}, nil
	case rules.Reject:
		return []expr.Any{reject(f)}, nil
	case rules.Reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}, nil
	case rules.Masquerade:
		return []expr.Any{&expr.Masq{FullyRandom: true}}, nil
	}
	return nil, fmt.Errorf("encode rule: statement %T cannot be written", s)
}

func loadL4(reg int) *expr.Meta { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register(reg)} }
func loadMark() *expr.Meta      { return &expr.Meta{Key: expr.MetaKeyMARK, Register: register(0)} }
func storeMark() *expr.Meta {
	return &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register(0)}
}

func equal(v []byte, not bool) *expr.Cmp {
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	return &expr.Cmp{Op: op, Register: register(0), Data: v}
}

func bitwise(mask, xor []byte) *expr.Bitwise {
	return &expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: uint32(len(mask)), Mask: mask, Xor: xor}
}

func translate(f rules.Family) *expr.NAT {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(nfproto(f)),
		RegAddrMin: register(0), RegProtoMin: register(words(f))}
}

// reject answers with ICMP port unreachable, whose code differs by family.
func reject(f rules.Family) *expr.Reject {
	code := uint8(3) // ICMP_PORT_UNREACH
	if f == rules.IPv6 {
		code = 4 // ICMPV6_PORT_UNREACH
	}
	return &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}
}

// load loads fields one after the other.
func load(f rules.Family, fs rules.Fields) []expr.Any {
	var out []expr.Any
	at := 0
	for _, fd := range fs.All() {
		e, n := loadField(f, fd, at)
		out = append(out, e)
		at += n
	}
	return out
}

// loadField returns the expression that loads a field into the registers from
// the at-th on, and how many it takes.
func loadField(f rules.Family, fd rules.Field, at int) (expr.Any, int) {
	reg := register(at)
	switch fd.Kind {
	case rules.SourceAddr:
		return loadAddr(f, true, reg), words(f)
	case rules.DestAddr:
		return loadAddr(f, false, reg), words(f)
	case rules.L4Protocol:
		return loadL4(at), 1
	case rules.DestPort:
		return &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: reg,
			Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, 1
	case rules.Numgen:
		return &expr.Numgen{Register: reg, Modulus: fd.Mod, Type: unix.NFT_NG_INCREMENTAL, Offset: fd.Offset}, 1
	}
	panic(fmt.Sprintf("kernel: no expression for field kind %d", fd.Kind))
}

// loadAddr loads an address from where the IPv4 and IPv6 headers have it.
func loadAddr(f rules.Family, source bool, reg uint32) *expr.Payload {
	p := &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: reg, Base: expr.PayloadBaseNetworkHeader}
	switch {
	case f == rules.IPv4 && source:
		p.Offset, p.Len = 12, 4
	case f == rules.IPv4:
		p.Offset, p.Len = 16, 4
	case source:
		p.Offset, p.Len = 8, 16
	default:
		p.Offset, p.Len = 24, 16
	}
	return p
}

// matchPrefix writes what nft writes: a prefix of whole bytes needs no mask.
func matchPrefix(f rules.Family, s rules.MatchSource) []expr.Any {
	addr, bits := s.Prefix.Addr().AsSlice(), s.Prefix.Bits()
	field := loadAddr(f, true, register(0))
	if bits > 0 && bits%8 == 0 {
		field.Len = uint32(bits / 8)
		return []expr.Any{field, equal(addr[:bits/8], s.Not)}
	}
	return []expr.Any{field, bitwise(mask(s.Prefix), make([]byte, len(addr))), equal(addr, s.Not)}
}

// mask returns a prefix's netmask.
func mask(p netip.Prefix) []byte {
	ones := bytes.Repeat([]byte{0xff}, p.Addr().BitLen()/8)
	a, _ := netip.AddrFromSlice(ones)
	m, _ := a.Prefix(p.Bits())
	return m.Addr().AsSlice()
}
