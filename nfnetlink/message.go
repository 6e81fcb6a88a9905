// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink

import (
	"encoding/binary"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"
)

// Message is a message that was received.
type Message struct {
	Type, Flags uint16
	Seq         uint32
	// Data is what follows nlmsghdr, valid until the next receive.
	Data Data
}

// Family returns the family in nfgenmsg: NFPROTO_IPV4 and so on; 0 if there is no nfgenmsg.
func (m Message) Family() uint8 {
	if len(m.Data) < 4 {
		return 0
	}
	return m.Data[0]
}

// Body returns what follows nfgenmsg: attributes.
func (m Message) Body() Data {
	if len(m.Data) < 4 {
		return nil
	}
	return m.Data[4:]
}

// Attributes yields the attributes in Body.
func (m Message) Attributes() iter.Seq2[uint16, Data] { return m.Body().Attributes() }

// EachMessage calls fn for each message in a datagram. It fails at one that is cut off.
func EachMessage(datagram []byte, fn func(Message)) error {
	for b := datagram; len(b) >= unix.NLMSG_HDRLEN; {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return fmt.Errorf("read netlink message of %d bytes in %d: truncated", length, len(b))
		}
		fn(Message{
			Type:  binary.NativeEndian.Uint16(b[4:]),
			Flags: binary.NativeEndian.Uint16(b[6:]),
			Seq:   binary.NativeEndian.Uint32(b[seqAt:]),
			Data:  b[unix.NLMSG_HDRLEN:length],
		})
		b = b[min(Align(length), len(b)):]
	}
	return nil
}

// number gives the messages in a buffer consecutive sequence numbers, and returns how many there are.
func number(b []byte, first uint32) (n uint32) {
	for ; len(b) >= unix.NLMSG_HDRLEN; n++ {
		binary.NativeEndian.PutUint32(b[seqAt:], first+n)
		length := int(binary.NativeEndian.Uint32(b))
		b = b[min(max(Align(length), unix.NLMSG_HDRLEN), len(b)):]
	}
	return n
}
