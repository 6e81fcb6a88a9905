// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// Data is an attribute's value: a text, a number, or attributes. Numbers are 0 where the value is too short.
type Data []byte

// Attributes yields types, without their flags, and values. Wrong lengths end it: the kernel's own messages have none.
func (d Data) Attributes() iter.Seq2[uint16, Data] {
	return func(yield func(uint16, Data) bool) {
		for len(d) >= unix.SizeofNlAttr {
			length := int(binary.NativeEndian.Uint16(d))
			if length < unix.SizeofNlAttr || length > len(d) {
				return
			}
			typ := binary.NativeEndian.Uint16(d[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, d[unix.SizeofNlAttr:length]) {
				return
			}
			d = d[min(Align(length), len(d)):]
		}
	}
}

// Text returns a text without the zero byte at its end.
func (d Data) Text() string {
	if n := len(d); n > 0 && d[n-1] == 0 {
		d = d[:n-1]
	}
	return string(d)
}

// U16 returns a big-endian number of 16 bits.
func (d Data) U16() uint16 {
	if len(d) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(d)
}

// U32 returns a big-endian number of 32 bits.
func (d Data) U32() uint32 {
	if len(d) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(d)
}

// U64 returns a big-endian number of 64 bits.
func (d Data) U64() uint64 {
	if len(d) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(d)
}

// NativeU32 returns a number of 32 bits in the machine's own order.
func (d Data) NativeU32() uint32 {
	if len(d) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(d)
}

// Align rounds a length up to where the next attribute or message begins.
func Align(n int) int { return (n + 3) &^ 3 }
