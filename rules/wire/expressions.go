// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// IPS_ASSURED and IPS_DST_NAT of a connection's status.
const (
	assuredBit = 1 << 2
	dnatBit    = 1 << 5
)

// replyDirection is IP_CT_DIR_REPLY.
const replyDirection = 1

// matchCtBits matches connections some of whose bits are set, or of which none is.
func matchCtBits(key expr.CtKey, bits uint32, set bool) []expr.Any {
	return []expr.Any{&expr.Ct{Register: register(0), Key: key}, bitwise(host32(bits), host32(0)), equal(host32(0), set)}
}

// dynsetDelete is NFT_DYNSET_OP_DELETE, which package unix does not have.
const dynsetDelete = 2

func host32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func loadMark() *expr.Meta { return &expr.Meta{Key: expr.MetaKeyMARK, Register: register(0)} }
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
	return &expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: uint32(len(mask)), Mask: mask, Xor: xor} //nolint:gosec // masks are as long as addresses
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

// note loads the key that a Note writes, and where there is one the value.
func note(f rules.Family, s rules.Note) []expr.Any {
	set := &expr.Dynset{SrcRegKey: register(0), SetName: s.Set.Name(), Operation: unix.NFT_DYNSET_OP_ADD,
		Timeout: time.Duration(s.Seconds) * time.Second}
	if s.Update {
		set.Operation = unix.NFT_DYNSET_OP_UPDATE
	}
	out := load(f, s.Fields)
	if s.Set.Kind.IsMap() {
		at := int(keyLen(f, s.Set.Kind) / 4)
		set.SrcRegData = register(at)
		out = append(out, loadAddr(f, false, register(at)), loadPort(register(at+words(f)), 2))
	}
	return append(out, set)
}

// interfaceName is a name as meta iifname has it, padded with zeros; of a pattern
// that ends in * only what comes before is compared.
func interfaceName(name string) []byte {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		return []byte(prefix)
	}
	return append([]byte(name), make([]byte, max(unix.IFNAMSIZ-len(name), 0))...)
}

// matchPrefix writes what nft writes: a prefix of whole bytes needs no mask.
func matchPrefix(f rules.Family, source bool, p netip.Prefix, not bool) []expr.Any {
	addr, bits := p.Addr().AsSlice(), p.Bits()
	field := loadAddr(f, source, register(0))
	if bits > 0 && bits%8 == 0 {
		field.Len = uint32(bits / 8) //nolint:gosec // prefixes are as long as addresses
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
