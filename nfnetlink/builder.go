// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// HeaderLen is the length of a message without attributes: nlmsghdr and nfgenmsg.
const HeaderLen = unix.NLMSG_HDRLEN + 4

// seqAt is where a message has its sequence number.
const seqAt = 8

// Builder appends messages to a buffer. Attributes are written as netlink wants them: length, type, value, padding
// to four bytes. Its numbers are big-endian, as netfilter's are but for a few; those are written as Bytes.
type Builder struct {
	// Buf is what was written. It may be cut off, and added to.
	Buf   []byte
	start int // of the message being written
}

// Request returns a builder with the header of one request, which End completes.
func Request(typ, flags uint16, family uint8) *Builder {
	b := &Builder{}
	b.Message(typ, flags, family, 0)
	return b
}

// Message begins a message. typ has the subsystem in its upper byte; NLM_F_REQUEST is set. The sequence number is
// the socket's to fill in.
func (b *Builder) Message(typ, flags uint16, family uint8, resource uint16) {
	b.start = len(b.Buf)
	b.Buf = binary.NativeEndian.AppendUint32(b.Buf, 0)
	b.Buf = binary.NativeEndian.AppendUint16(b.Buf, typ)
	b.Buf = binary.NativeEndian.AppendUint16(b.Buf, flags|unix.NLM_F_REQUEST)
	b.Buf = binary.NativeEndian.AppendUint64(b.Buf, 0) // sequence number and port
	b.Buf = append(b.Buf, family, unix.NFNETLINK_V0)
	b.Buf = binary.BigEndian.AppendUint16(b.Buf, resource)
}

// End completes the message.
func (b *Builder) End() {
	binary.NativeEndian.PutUint32(b.Buf[b.start:], uint32(len(b.Buf)-b.start)) //nolint:gosec // messages are far shorter
}

// Open begins an attribute and returns where; Close completes it.
func (b *Builder) Open(typ uint16) int {
	at := len(b.Buf)
	b.Buf = binary.NativeEndian.AppendUint16(b.Buf, 0)
	b.Buf = binary.NativeEndian.AppendUint16(b.Buf, typ)
	return at
}

// Close completes the attribute that begins at a place.
func (b *Builder) Close(at int) {
	binary.NativeEndian.PutUint16(b.Buf[at:], uint16(len(b.Buf)-at)) //nolint:gosec // attributes are far shorter
	for len(b.Buf)%4 != 0 {
		b.Buf = append(b.Buf, 0)
	}
}

// Nest begins an attribute that holds attributes; Close completes it.
func (b *Builder) Nest(typ uint16) int { return b.Open(typ | unix.NLA_F_NESTED) }

// Str writes a text, with the zero byte at its end.
func (b *Builder) Str(typ uint16, s string) {
	at := b.Open(typ)
	b.Buf = append(b.Buf, s...)
	b.Buf = append(b.Buf, 0)
	b.Close(at)
}

// Bytes writes a value as it is.
func (b *Builder) Bytes(typ uint16, v ...byte) {
	at := b.Open(typ)
	b.Buf = append(b.Buf, v...)
	b.Close(at)
}

// U16 writes a number of 16 bits.
func (b *Builder) U16(typ uint16, v uint16) {
	at := b.Open(typ)
	b.Buf = binary.BigEndian.AppendUint16(b.Buf, v)
	b.Close(at)
}

// U32 writes a number of 32 bits.
func (b *Builder) U32(typ uint16, v uint32) {
	at := b.Open(typ)
	b.Buf = binary.BigEndian.AppendUint32(b.Buf, v)
	b.Close(at)
}

// U64 writes a number of 64 bits.
func (b *Builder) U64(typ uint16, v uint64) {
	at := b.Open(typ)
	b.Buf = binary.BigEndian.AppendUint64(b.Buf, v)
	b.Close(at)
}
