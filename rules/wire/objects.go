// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// Object returns the object that the batch's i-th message is about; of elements that which has the byte at an offset in
// the message. It is false for a message that is about the whole batch, such as the first: an error about that came with
// the commit.
func (b *Batch) Object(message, offset int) (o rules.Object, ok bool) {
	i := message - 1
	if i < 0 || i >= len(b.refs) {
		return o, false
	}
	ref := b.refs[i]
	o = ref.op.Object(b.tableOf(i))
	if len(ref.op.Elements) > 0 {
		o.Element = &ref.op.Elements[min(ref.elem+elementAt(b.Buf[ref.start:], offset), len(ref.op.Elements)-1)]
	}
	return o, true
}

// elementAt returns which element of the message that a buffer begins with has the byte at an
// offset in the message, 0 if none has.
func elementAt(b []byte, offset int) int {
	found := 0
	if offset < headerLen {
		return 0
	}
	msg := b[:binary.NativeEndian.Uint32(b)]
	for typ, list := range nfnetlink.Data(msg[headerLen:]).Attributes() {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		at, i := cap(msg)-cap(list), 0
		for _, e := range list.Attributes() {
			if offset >= at {
				found = i
			}
			at += unix.SizeofNlAttr + nfnetlink.Align(len(e))
			i++
		}
	}
	return found
}
