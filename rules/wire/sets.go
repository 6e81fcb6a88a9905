// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
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

// keyPart is how the kernel and nft have a part of a key.
type keyPart struct {
	dataType [2]uint32 // nft's number of its type, by family
	length   [2]uint32 // in bytes, by family
	// typeof returns the user data of an expression that has the type.
	typeof func(rules.Family) []byte
}

var keyParts = [rules.NumKeyParts]keyPart{
	rules.KeyAddr:     {[2]uint32{typeIPv4, typeIPv6}, [2]uint32{4, 16}, daddrUdata},
	rules.KeySameAddr: {[2]uint32{typeIPv4, typeIPv6}, [2]uint32{4, 16}, daddrUdata},
	rules.KeyProtocol: {[2]uint32{typeInetProto, typeInetProto}, [2]uint32{1, 1}, l4protoUdata},
	rules.KeyPort:     {[2]uint32{typeInetService, typeInetService}, [2]uint32{2, 2}, dportUdata},
	rules.KeyID:       {[2]uint32{typeInteger, typeInteger}, [2]uint32{4, 4}, numgenUdata(1)},
	rules.KeyCounter:  {[2]uint32{typeInteger, typeInteger}, [2]uint32{4, 4}, numgenUdata(2)},
	rules.KeyChoice:   {[2]uint32{typeInteger, typeInteger}, [2]uint32{4, 4}, numgenUdata(65536)},
}

// keyLen returns the length of a key: that of its part, or of several, each of which begins a register.
func keyLen(f rules.Family, k rules.SetKind) uint32 {
	parts := k.Key()
	if len(parts) == 1 {
		return keyParts[parts[0]].length[f]
	}
	n := uint32(0)
	for _, p := range parts {
		n += uint32(nfnetlink.Align(int(keyParts[p].length[f]))) //nolint:gosec // parts of keys are short
	}
	return n
}

// schemas are those of all kinds of sets, by family and kind.
var schemas = func() (out [2][]schema) {
	for _, f := range rules.Families {
		for _, k := range rules.SetKinds() {
			out[f] = append(out[f], newSchema(f, k))
		}
	}
	return out
}()

func schemaOf(f rules.Family, k rules.SetKind) schema { return schemas[f][k] }

func newSchema(f rules.Family, k rules.SetKind) schema {
	s := schema{keyLen: keyLen(f, k)}
	typeof := false
	for _, p := range k.Key() {
		s.keyType = concat(s.keyType, keyParts[p].dataType[f])
		typeof = typeof || keyParts[p].dataType[f] == typeInteger
	}
	switch k.Value() {
	case rules.Range:
		s.flags = unix.NFT_SET_INTERVAL
	case rules.ToEndpoint:
		s.dataType, s.dataLen = concat(keyParts[rules.KeyAddr].dataType[f], typeInetService), endpointLen(f)
	case rules.JumpTo, rules.GoTo:
		s.dataType, s.dataLen = unix.NFT_DATA_VERDICT, 16
	}
	if k.IsMap() {
		s.flags |= unix.NFT_SET_MAP
	}
	if k.Dynamic() {
		s.flags |= unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL
	}
	if typeof {
		s.userdata = typeofUdata(f, k)
	}
	return s
}

// endpointLen returns the length of an address and port.
func endpointLen(f rules.Family) uint32 { return keyParts[rules.KeyAddr].length[f] + 4 }

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
	if !keyOnly && k.IsMap() {
		elementValue(b, k, e)
	}
	b.Close(at)
	if k.Interval() {
		b.rangeEnd(k, e.To.Addr().Next())
	}
}

func elementValue(b *builder, k rules.SetKind, e *rules.Element) {
	data := b.Nest(unix.NFTA_SET_ELEM_DATA)
	if k.Value() != rules.ToEndpoint {
		b.verdict(k, e.Goto)
	} else {
		v := b.Open(unix.NFTA_DATA_VALUE)
		b.Buf = appendBackend(b.Buf, e.To)
		b.Close(v)
	}
	b.Close(data)
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
	if k.Value() == rules.JumpTo {
		return jumpTo
	}
	return goTo
}

// appendKey writes a key as it stands in registers: each part of several padded to 32 bits.
func appendKey(dst []byte, kind rules.SetKind, k *rules.Key) []byte {
	parts, start := kind.Key(), len(dst)
	for _, p := range parts {
		switch p {
		case rules.KeyAddr, rules.KeySameAddr:
			dst = appendAddr(dst, k.Addr)
		case rules.KeyProtocol:
			dst = append(dst, byte(k.Protocol))
		case rules.KeyPort:
			dst = binary.BigEndian.AppendUint16(dst, k.Port)
		case rules.KeyID:
			dst = binary.NativeEndian.AppendUint32(dst, k.ID)
		case rules.KeyCounter, rules.KeyChoice:
			dst = binary.NativeEndian.AppendUint32(dst, k.Index)
		}
		for len(parts) > 1 && (len(dst)-start)%4 != 0 {
			dst = append(dst, 0)
		}
	}
	return dst
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

// parseKey is the reverse of appendKey. odd says what a key has that none of ours has.
func parseKey(f rules.Family, kind rules.SetKind, b []byte) (k rules.Key, odd string, ok bool) {
	if len(b) < int(schemaOf(f, kind).keyLen) {
		return rules.Key{}, "", false
	}
	for _, p := range kind.Key() {
		switch p {
		case rules.KeyAddr:
			k.Addr, _ = cutAddr(f, b)
		case rules.KeySameAddr:
			if a, _ := cutAddr(f, b); a != k.Addr {
				odd = fmt.Sprintf("an element of two addresses (%s . %s)", k.Addr, a)
			}
		case rules.KeyProtocol:
			k.Protocol = rules.Protocol(b[0])
		case rules.KeyPort:
			k.Port = binary.BigEndian.Uint16(b)
		case rules.KeyID:
			k.ID = binary.NativeEndian.Uint32(b)
		case rules.KeyCounter, rules.KeyChoice:
			k.Index = binary.NativeEndian.Uint32(b)
		}
		b = b[min(nfnetlink.Align(int(keyParts[p].length[f])), len(b)):]
	}
	return k, odd, true
}

func cutAddr(f rules.Family, b []byte) (netip.Addr, []byte) {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte(b)), b[4:]
	}
	return netip.AddrFrom16([16]byte(b)), b[16:]
}

func parseBackend(f rules.Family, b []byte) (netip.AddrPort, bool) {
	if len(b) < int(endpointLen(f)) {
		return netip.AddrPort{}, false
	}
	a, b := cutAddr(f, b)
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b)), true
}
