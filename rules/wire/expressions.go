// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// Every statement is a run of expressions that work on registers. Fields are
// loaded into consecutive 32-bit registers from the first one on.

// dnatBit is IPS_DST_NAT of a connection's status.
const dnatBit = 1 << 5

// dynsetDelete is NFT_DYNSET_OP_DELETE, which package unix does not have.
const dynsetDelete = 2

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
		return matchPrefix(f, true, s.Prefix, s.Not), nil
	case rules.MatchInterface:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register(0)}, equal(interfaceName(s.Name), s.Not)}, nil
	case rules.MatchLocalSource:
		return []expr.Any{&expr.Fib{Register: register(0), FlagSADDR: true, ResultADDRTYPE: true}, equal(host32(unix.RTN_LOCAL), false)}, nil
	case rules.MatchLocalDest:
		return append(matchPrefix(f, false, loopback(f), true),
			&expr.Fib{Register: register(0), FlagDADDR: true, ResultADDRTYPE: true}, equal(host32(unix.RTN_LOCAL), false)), nil
	case rules.MatchSet:
		return append(load(f, s.Fields), &expr.Lookup{SourceRegister: register(0), SetName: s.Set.Name(), Invert: s.Not}), nil
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
	case rules.DNATRemembered:
		return dnatRemembered(f, s), nil
	case rules.RestoreDest:
		return append(load(f, rules.NewFields(rules.Field{Kind: rules.OriginalAddr})), storeDest(f, register(0))), nil
	case rules.Forget:
		return append(load(f, rememberFields()), &expr.Dynset{SrcRegKey: register(0), SrcRegData: register(words(f)),
			SetName: s.Set.Name(), Operation: dynsetDelete}), nil
	case rules.Remember:
		return append(load(f, rememberFields()), remember(f, s)), nil
	case rules.Jump:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: s.Chain}}, nil
	case rules.Goto:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: s.Chain}}, nil
	case rules.Return:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}, nil
	case rules.Reject:
		return []expr.Any{reject(f)}, nil
	case rules.Reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}, nil
	case rules.RejectProtocol:
		if f != rules.IPv4 {
			return nil, fmt.Errorf("encode rule: statement %T is for IPv4 only", s)
		}
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 2}}, nil // ICMP_PROT_UNREACH
	case rules.Drop:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, nil
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

func equal(v nfnetlink.Data, not bool) *expr.Cmp {
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
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(NFProto(f)),
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

// dnatRemembered looks the client up, then its endpoint. It would be two lookups one after the other, but nft
// takes what a map gives for a value without a length: it aborts where a rule uses that as a key or a part of one,
// in all versions up to 1.1.7. So the address goes through the packet, whose destination is ours to change. The
// port cannot: where a UDP packet has no checksum the kernel would give it a wrong one. It stays in its register,
// where nft sees what was loaded there before.
func dnatRemembered(f rules.Family, s rules.DNATRemembered) []expr.Any {
	key, addr, port := register(0), register(1), register(1+words(f))
	return []expr.Any{
		loadPort(port, 2),
		loadAddr(f, true, addr),
		&expr.Lookup{SourceRegister: addr, SetName: s.Clients.Name(), IsDestRegSet: true, DestRegister: addr}, // and port
		storeDest(f, addr),
		loadAddr(f, false, addr),
		&expr.Numgen{Register: key, Modulus: 1, Type: unix.NFT_NG_INCREMENTAL, Offset: s.ID},
		&expr.Lookup{SourceRegister: key, SetName: s.Map.Name(), IsDestRegSet: true, DestRegister: key},
		translate(f),
	}
}

// storeDest writes the destination address into the packet, with the checksums that it is in.
func storeDest(f rules.Family, reg uint32) *expr.Payload {
	p := loadAddr(f, false, 0)
	p.OperationType, p.SourceRegister, p.CsumFlags = expr.PayloadWrite, reg, unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR
	if f == rules.IPv4 {
		p.CsumType, p.CsumOffset = expr.CsumTypeInet, 10
	}
	return p
}

// rememberFields are the key and the value that Remember writes.
func rememberFields() rules.Fields {
	return rules.NewFields(rules.Field{Kind: rules.SourceAddr}, rules.Field{Kind: rules.DestAddr}, rules.Field{Kind: rules.DestPort})
}

func remember(f rules.Family, s rules.Remember) *expr.Dynset {
	return &expr.Dynset{SrcRegKey: register(0), SrcRegData: register(words(f)), SetName: s.Set.Name(),
		Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: time.Duration(s.Seconds) * time.Second}
}

// interfaceName is a name as meta iifname has it, padded with zeros; of a pattern
// that ends in * only what comes before is compared.
func interfaceName(name string) []byte {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		return []byte(prefix)
	}
	return append([]byte(name), make([]byte, max(unix.IFNAMSIZ-len(name), 0))...)
}

// load loads fields one after the other.
func load(f rules.Family, fs rules.Fields) []expr.Any {
	var out []expr.Any
	at := 0
	for _, fd := range fs.All() {
		e, n := loadField(f, fd, at)
		out = append(out, e...)
		at += n
	}
	return out
}

// loadField returns the expressions that load a field into the registers from
// the at-th on, and how many it takes.
func loadField(f rules.Family, fd rules.Field, at int) ([]expr.Any, int) {
	reg := register(at)
	switch fd.Kind {
	case rules.SourceAddr:
		return []expr.Any{loadAddr(f, true, reg)}, words(f)
	case rules.DestAddr:
		return []expr.Any{loadAddr(f, false, reg)}, words(f)
	case rules.L4Protocol:
		return []expr.Any{loadL4(at)}, 1
	case rules.DestPort:
		return []expr.Any{loadPort(reg, 2)}, 1
	case rules.Numgen, rules.RandomNumber:
		typ := uint32(unix.NFT_NG_INCREMENTAL)
		if fd.Kind == rules.RandomNumber {
			typ = unix.NFT_NG_RANDOM
		}
		return []expr.Any{&expr.Numgen{Register: reg, Modulus: fd.Mod, Type: typ, Offset: fd.Offset}}, 1
	case rules.ClientHash:
		return clientHash(f, fd, at), 1
	case rules.OriginalAddr:
		key := expr.CtKeyDSTIP
		if f == rules.IPv6 {
			key = expr.CtKeyDSTIP6
		}
		return []expr.Any{&expr.Ct{Register: reg, Key: key, Direction: expr.CtDirOriginal}}, words(f)
	case rules.OriginalPort:
		return []expr.Any{&expr.Ct{Register: reg, Key: expr.CtKeyPROTODST, Direction: expr.CtDirOriginal}}, 1
	}
	panic(fmt.Sprintf("kernel: no expression for field kind %d", fd.Kind))
}

// clientHash hashes the client's address and port, which go into registers behind the
// key, where nft puts them. The hash is the last field of a key.
func clientHash(f rules.Family, fd rules.Field, at int) []expr.Any {
	scratch := at + 5
	return []expr.Any{
		loadAddr(f, true, register(scratch)), loadPort(register(scratch+words(f)), 0),
		&expr.Hash{SourceRegister: register(scratch), DestRegister: register(at), Length: uint32(4*words(f) + 4),
			Modulus: fd.Mod, Seed: rules.HashSeed, Offset: fd.Offset, Type: expr.HashTypeJenkins},
	}
}

// loadPort loads a port from the transport header: the source's is at 0, the
// destination's at 2.
func loadPort(reg, offset uint32) *expr.Payload {
	return &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: reg,
		Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
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
func matchPrefix(f rules.Family, source bool, p netip.Prefix, not bool) []expr.Any {
	addr, bits := p.Addr().AsSlice(), p.Bits()
	field := loadAddr(f, source, register(0))
	if bits > 0 && bits%8 == 0 {
		field.Len = uint32(bits / 8)
		return []expr.Any{field, equal(addr[:bits/8], not)}
	}
	return []expr.Any{field, bitwise(mask(p), make([]byte, len(addr))), equal(addr, not)}
}

func loopback(f rules.Family) netip.Prefix {
	if f == rules.IPv6 {
		return netip.PrefixFrom(netip.IPv6Loopback(), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}

// mask returns a prefix's netmask.
func mask(p netip.Prefix) []byte {
	ones := bytes.Repeat([]byte{0xff}, p.Addr().BitLen()/8)
	a, _ := netip.AddrFromSlice(ones)
	m, _ := a.Prefix(p.Bits())
	return m.Addr().AsSlice()
}
