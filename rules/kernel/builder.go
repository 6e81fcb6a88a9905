// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// Attributes are written as netlink wants them: length, type, value, padding to
// four bytes. Numbers in them are big-endian (nf_tables' choice) unless they are
// packet mark or numgen values, which are the host's.

// typeMask leaves the flags (nested, byte order) out of an attribute's type.
const typeMask = 0x3fff

// builder appends messages to a buffer.
type builder struct {
	buf   []byte
	start int // of the message being written
}

// message begins a message of nf_tables.
func (b *builder) message(typ uint16, flags uint16, family uint8, seq uint32) {
	b.header(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, family, 0, seq)
}

func (b *builder) header(typ, flags uint16, family uint8, resID uint16, seq uint32) {
	b.start = len(b.buf)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, flags|unix.NLM_F_REQUEST)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, seq)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, 0)
	b.buf = append(b.buf, family, unix.NFNETLINK_V0)
	b.buf = binary.BigEndian.AppendUint16(b.buf, resID)
}

// end completes the message.
func (b *builder) end() {
	binary.NativeEndian.PutUint32(b.buf[b.start:], uint32(len(b.buf)-b.start))
}

// open begins an attribute and returns where; close completes it.
func (b *builder) open(typ uint16) int {
	at := len(b.buf)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	return at
}

func (b *builder) close(at int) {
	binary.NativeEndian.PutUint16(b.buf[at:], uint16(len(b.buf)-at))
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

// nest begins an attribute that holds attributes.
func (b *builder) nest(typ uint16) int { return b.open(typ | unix.NLA_F_NESTED) }

func (b *builder) str(typ uint16, s string) {
	at := b.open(typ)
	b.buf = append(b.buf, s...)
	b.buf = append(b.buf, 0)
	b.close(at)
}

func (b *builder) bytes(typ uint16, v []byte) {
	at := b.open(typ)
	b.buf = append(b.buf, v...)
	b.close(at)
}

func (b *builder) u32(typ uint16, v uint32) {
	at := b.open(typ)
	b.buf = binary.BigEndian.AppendUint32(b.buf, v)
	b.close(at)
}

// eachAttr calls fn for each attribute. Errors in the framing end the walk: the
// kernel's own messages have none.
func eachAttr(b []byte, fn func(typ uint16, v []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return
		}
		fn(binary.NativeEndian.Uint16(b[2:])&typeMask, b[unix.SizeofNlAttr:length])
		b = b[min(align(length), len(b)):]
	}
}

// text is a string attribute's value without its end mark.
func text(v []byte) string {
	if n := len(v); n > 0 && v[n-1] == 0 {
		v = v[:n-1]
	}
	return string(v)
}

func be32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// host32of reads a number in the machine's own order, 0 if it is short.
func host32of(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

func be64(v []byte) uint64 {
	if len(v) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// nfproto is the kernel's number of a family.
func nfproto(f rules.Family) uint8 {
	if f == rules.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}
