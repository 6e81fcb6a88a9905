// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// nft's numbers of types (its datatype.h). A concatenation's number is made of
// those of its parts, 6 bits each.
const (
	typeInteger     = 4
	typeIPv4        = 7
	typeIPv6        = 8
	typeInetProto   = 12
	typeInetService = 13
	typeBits        = 6
)

// The verdict codes NFT_JUMP and NFT_GOTO.
const (
	jumpTo = 0xfffffffd
	goTo   = 0xfffffffc
)

// attrSetExpr is NFTA_SET_EXPR, which package unix does not have: a statement that each element gets.
const attrSetExpr = 17

// schema is a set's declaration as the kernel keeps it.
type schema struct {
	keyType, keyLen   uint32
	dataType, dataLen uint32 // dataLen is 0 for a set
	flags             uint32
	userdata          []byte
	counted           bool // each element has a counter
}

func concat(types ...uint32) uint32 {
	var t uint32
	for _, x := range types {
		t = t<<typeBits | x
	}
	return t
}

func schemaOf(f rules.Family, k rules.SetKind) schema {
	addr, addrLen := uint32(typeIPv4), uint32(4)
	if f == rules.IPv6 {
		addr, addrLen = typeIPv6, 16
	}
	s := schema{keyType: addr, keyLen: addrLen}
	switch k {
	case rules.Protocols:
		s = schema{keyType: typeInetProto, keyLen: 1}
	case rules.Endpoints:
		s = schema{keyType: concat(typeInteger, typeInteger), keyLen: 8, userdata: endpointsTypeof(f)}
	case rules.Stay:
		s = schema{keyType: concat(typeInteger, addr, typeInetService), keyLen: addrLen + 8, userdata: stayTypeof(f)}
	case rules.Backends:
		s = schema{keyType: concat(addr, typeInetProto, typeInetService, typeInteger), keyLen: addrLen + 12, userdata: backendsTypeof(f)}
	case rules.Hairpin:
		s = schema{keyType: concat(addr, addr), keyLen: 2 * addrLen}
	case rules.MasqueradeIPs, rules.Single, rules.ServiceIPs, rules.Sticky:
		s = schema{keyType: concat(addr, typeInetProto, typeInetService), keyLen: addrLen + 8}
	case rules.MasqueradeNodePorts, rules.SingleNodePorts, rules.NodePorts, rules.StickyNodePorts:
		s = schema{keyType: concat(typeInetProto, typeInetService), keyLen: 8}
	case rules.Sources, rules.ServiceCIDRs:
		s.flags = unix.NFT_SET_INTERVAL
	case rules.Affinity:
		s.flags = unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL
	}
	switch {
	case k.Verdict() != "":
		s.dataType, s.dataLen = unix.NFT_DATA_VERDICT, 16
	case toEndpoints(k):
		s.dataType, s.dataLen = concat(addr, typeInetService), addrLen+4
	}
	if s.dataLen > 0 {
		s.flags |= unix.NFT_SET_MAP
	}
	return s
}

// toEndpoints says whether maps of a kind lead to endpoints.
func toEndpoints(k rules.SetKind) bool {
	switch k {
	case rules.Stay, rules.Endpoints, rules.Backends, rules.Single, rules.SingleNodePorts, rules.Affinity:
		return true
	}
	return false
}

// same says whether a set that the kernel holds can hold our elements, counted or not.
func (s schema) same(o schema) bool {
	return s.keyType == o.keyType && s.keyLen == o.keyLen && s.flags == o.flags &&
		s.dataType == o.dataType && (s.dataType == unix.NFT_DATA_VERDICT || s.dataLen == o.dataLen)
}

// newSet declares a set. id is a number that no other set of the batch has.
func (b *builder) newSet(op *rules.Op, table string, id uint32) {
	s := schemaOf(op.Family, op.Set.Kind)
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL, NFProto(op.Family))
	b.Str(unix.NFTA_SET_TABLE, table)
	b.Str(unix.NFTA_SET_NAME, op.Set.Name())
	b.U32(unix.NFTA_SET_FLAGS, s.flags)
	b.U32(unix.NFTA_SET_KEY_TYPE, s.keyType)
	b.U32(unix.NFTA_SET_KEY_LEN, s.keyLen)
	if s.dataLen > 0 {
		b.U32(unix.NFTA_SET_DATA_TYPE, s.dataType)
		b.U32(unix.NFTA_SET_DATA_LEN, s.dataLen)
	}
	b.U32(unix.NFTA_SET_ID, id)
	if op.Size > 0 {
		at := b.Nest(unix.NFTA_SET_DESC)
		b.U32(unix.NFTA_SET_DESC_SIZE, op.Size)
		b.Close(at)
	}
	if s.userdata != nil {
		b.Bytes(unix.NFTA_SET_USERDATA, s.userdata...)
	}
	if op.Counted { // each element gets one of its own (Linux 5.11)
		at := b.Nest(attrSetExpr)
		b.Close(b.expression("counter"))
		b.Close(at)
	}
	b.End()
}

// element writes one element of a list: two for a range. Deletions carry the key only.
func (b *builder) element(k rules.SetKind, e *rules.Element, keyOnly bool) {
	at := b.Nest(unix.NFTA_LIST_ELEM)
	b.elementKey(k, &e.Key)
	if !keyOnly && (k.Verdict() != "" || toEndpoints(k)) {
		data := b.Nest(unix.NFTA_SET_ELEM_DATA)
		if k.Verdict() != "" {
			b.verdict(k, e.Goto)
		} else {
			v := b.Open(unix.NFTA_DATA_VALUE)
			b.Buf = appendBackend(b.Buf, e.To)
			b.Close(v)
		}
		b.Close(data)
	}
	b.Close(at)
	if k.Interval() {
		b.rangeEnd(k, e.To.Addr().Next())
	}
}

// rangeEnd writes the first address behind a range; a range that goes to the last
// address has none.
func (b *builder) rangeEnd(k rules.SetKind, end netip.Addr) {
	if !end.IsValid() {
		return
	}
	at := b.Nest(unix.NFTA_LIST_ELEM)
	b.elementKey(k, &rules.Key{Addr: end})
	b.U32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	b.Close(at)
}

func (b *builder) elementKey(k rules.SetKind, key *rules.Key) {
	at := b.Nest(unix.NFTA_SET_ELEM_KEY)
	v := b.Open(unix.NFTA_DATA_VALUE)
	b.Buf = appendKey(b.Buf, k, key)
	b.Close(v)
	b.Close(at)
}

func (b *builder) verdict(k rules.SetKind, chain string) {
	v := b.Nest(unix.NFTA_DATA_VERDICT)
	b.U32(unix.NFTA_VERDICT_CODE, verdictCode(k))
	b.Str(unix.NFTA_VERDICT_CHAIN, chain)
	b.Close(v)
}

func verdictCode(k rules.SetKind) uint32 {
	if k.Verdict() == "jump" {
		return jumpTo
	}
	return goTo
}

// appendKey writes a key as it stands in registers: each part padded to 32 bits.
func appendKey(dst []byte, kind rules.SetKind, k *rules.Key) []byte {
	switch kind {
	case rules.Protocols:
		return append(dst, byte(k.Protocol))
	case rules.Endpoints:
		return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(dst, k.ID), k.Index)
	case rules.Stay:
		return appendBackend(binary.NativeEndian.AppendUint32(dst, k.ID), netip.AddrPortFrom(k.Addr, k.Port))
	case rules.Hairpin:
		return appendAddr(appendAddr(dst, k.Addr), k.Addr)
	case rules.Backends:
		return binary.NativeEndian.AppendUint32(appendPort(appendAddr(dst, k.Addr), k), k.Index)
	case rules.MasqueradeIPs, rules.Single, rules.ServiceIPs, rules.Sticky:
		return appendPort(appendAddr(dst, k.Addr), k)
	case rules.MasqueradeNodePorts, rules.SingleNodePorts, rules.NodePorts, rules.StickyNodePorts:
		return appendPort(dst, k)
	default:
		return appendAddr(dst, k.Addr)
	}
}

func appendPort(dst []byte, k *rules.Key) []byte {
	dst = append(dst, byte(k.Protocol), 0, 0, 0)
	return append(binary.BigEndian.AppendUint16(dst, k.Port), 0, 0)
}

func appendAddr(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return append(dst, v[:]...)
	}
	v := a.As16()
	return append(dst, v[:]...)
}

func appendBackend(dst []byte, to netip.AddrPort) []byte {
	dst = appendAddr(dst, to.Addr())
	return append(binary.BigEndian.AppendUint16(dst, to.Port()), 0, 0)
}

// parseKey is the reverse of appendKey.
func parseKey(f rules.Family, kind rules.SetKind, b []byte) (rules.Key, bool) {
	if len(b) < int(schemaOf(f, kind).keyLen) {
		return rules.Key{}, false
	}
	var k rules.Key
	switch kind {
	case rules.Protocols:
		k.Protocol = rules.Protocol(b[0])
	case rules.Endpoints:
		k.ID, k.Index = binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
	case rules.Stay:
		k.ID = binary.NativeEndian.Uint32(b)
		k.Addr, b = cutAddr(f, b[4:])
		k.Port = binary.BigEndian.Uint16(b)
	case rules.Backends:
		k.Addr, b = cutAddr(f, b)
		k.Protocol, k.Port = rules.Protocol(b[0]), binary.BigEndian.Uint16(b[4:])
		k.Index = binary.NativeEndian.Uint32(b[8:])
	case rules.MasqueradeIPs, rules.Single, rules.ServiceIPs, rules.Sticky:
		k.Addr, b = cutAddr(f, b)
		k.Protocol, k.Port = rules.Protocol(b[0]), binary.BigEndian.Uint16(b[4:])
	case rules.MasqueradeNodePorts, rules.SingleNodePorts, rules.NodePorts, rules.StickyNodePorts:
		k.Protocol, k.Port = rules.Protocol(b[0]), binary.BigEndian.Uint16(b[4:])
	default:
		k.Addr, _ = cutAddr(f, b)
	}
	return k, true
}

func cutAddr(f rules.Family, b []byte) (netip.Addr, []byte) {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte(b)), b[4:]
	}
	return netip.AddrFrom16([16]byte(b)), b[16:]
}

func parseBackend(f rules.Family, b []byte) (netip.AddrPort, bool) {
	if len(b) < int(schemaOf(f, rules.Single).dataLen) {
		return netip.AddrPort{}, false
	}
	a, b := cutAddr(f, b)
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b)), true
}
