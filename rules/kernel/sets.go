// SPDX-License-Identifier: Apache-2.0

package kernel

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

// goTo is the verdict code NFT_GOTO.
const goTo = 0xfffffffc

// schema is a set's declaration as the kernel keeps it.
type schema struct {
	keyType, keyLen   uint32
	dataType, dataLen uint32
	flags             uint32
	userdata          []byte
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
	frontend, frontendLen := concat(addr, typeInetProto, typeInetService), addrLen+8
	backend, backendLen := concat(addr, typeInetService), addrLen+4
	switch k {
	case rules.Protocols:
		return schema{keyType: typeInetProto, keyLen: 1}
	case rules.Endpoints:
		return schema{keyType: concat(typeInteger, typeInteger), keyLen: 8,
			dataType: backend, dataLen: backendLen, flags: unix.NFT_SET_MAP, userdata: endpointsTypeof(f)}
	case rules.Hairpin:
		return schema{keyType: concat(addr, addr), keyLen: 2 * addrLen}
	case rules.Single:
		return schema{keyType: frontend, keyLen: frontendLen, dataType: backend, dataLen: backendLen, flags: unix.NFT_SET_MAP}
	case rules.ServiceIPs:
		return schema{keyType: frontend, keyLen: frontendLen, dataType: unix.NFT_DATA_VERDICT, dataLen: 16, flags: unix.NFT_SET_MAP}
	default:
		return schema{keyType: addr, keyLen: addrLen}
	}
}

func (s schema) isMap() bool { return s.flags&unix.NFT_SET_MAP != 0 }

// same says whether a set that the kernel holds can hold our elements.
func (s schema) same(o schema) bool {
	return s.keyType == o.keyType && s.keyLen == o.keyLen && s.flags == o.flags &&
		(!s.isMap() || s.dataType == o.dataType && (s.dataType == unix.NFT_DATA_VERDICT || s.dataLen == o.dataLen))
}

func (b *builder) newSet(f rules.Family, table string, id rules.SetID, seq uint32) {
	s := schemaOf(f, id.Kind)
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nfproto(f), seq)
	b.str(unix.NFTA_SET_TABLE, table)
	b.str(unix.NFTA_SET_NAME, id.Name())
	b.u32(unix.NFTA_SET_FLAGS, s.flags)
	b.u32(unix.NFTA_SET_KEY_TYPE, s.keyType)
	b.u32(unix.NFTA_SET_KEY_LEN, s.keyLen)
	if s.isMap() {
		b.u32(unix.NFTA_SET_DATA_TYPE, s.dataType)
		b.u32(unix.NFTA_SET_DATA_LEN, s.dataLen)
	}
	b.u32(unix.NFTA_SET_ID, seq) // any number that no other set of the batch has
	if s.userdata != nil {
		b.bytes(unix.NFTA_SET_USERDATA, s.userdata)
	}
	b.end()
}

// element writes one element of a list. Deletions carry the key only.
func (b *builder) element(f rules.Family, k rules.SetKind, e *rules.Element, keyOnly bool) {
	at := b.nest(unix.NFTA_LIST_ELEM)
	key := b.nest(unix.NFTA_SET_ELEM_KEY)
	v := b.open(unix.NFTA_DATA_VALUE)
	b.buf = appendKey(b.buf, k, &e.Key)
	b.close(v)
	b.close(key)
	if !keyOnly && schemaOf(f, k).isMap() {
		data := b.nest(unix.NFTA_SET_ELEM_DATA)
		if k == rules.ServiceIPs {
			v := b.nest(unix.NFTA_DATA_VERDICT)
			b.u32(unix.NFTA_VERDICT_CODE, goTo)
			b.str(unix.NFTA_VERDICT_CHAIN, e.Goto)
			b.close(v)
		} else {
			v := b.open(unix.NFTA_DATA_VALUE)
			b.buf = appendBackend(b.buf, e.To)
			b.close(v)
		}
		b.close(data)
	}
	b.close(at)
}

// appendKey writes a key as it stands in registers: each part padded to 32 bits.
func appendKey(dst []byte, kind rules.SetKind, k *rules.Key) []byte {
	switch kind {
	case rules.Protocols:
		return append(dst, byte(k.Protocol))
	case rules.Endpoints:
		return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(dst, k.ID), k.Index)
	case rules.Hairpin:
		return appendAddr(appendAddr(dst, k.Addr), k.Addr)
	case rules.ClusterIPs:
		return appendAddr(dst, k.Addr)
	default:
		dst = append(appendAddr(dst, k.Addr), byte(k.Protocol), 0, 0, 0)
		return append(binary.BigEndian.AppendUint16(dst, k.Port), 0, 0)
	}
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
	case rules.Hairpin, rules.ClusterIPs:
		k.Addr, _ = cutAddr(f, b)
	default:
		k.Addr, b = cutAddr(f, b)
		k.Protocol, k.Port = rules.Protocol(b[0]), binary.BigEndian.Uint16(b[4:])
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
