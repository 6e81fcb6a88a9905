// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"iter"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// AddClients adds elements to a map that packets fill, which op adds, with what is left of their time: no more than the map
// holds, and none that makes the batch longer than room.
func AddClients(b *Batch, op *rules.Op, list iter.Seq[Element], room int) {
	const longest = 150 // of an element, and more
	add := &rules.Op{Kind: rules.AddElements, Family: op.Family, Set: op.Set}
	left, message, elements := op.Size, 0, 0
	end := func() {
		if message > 0 {
			b.Close(elements)
			b.End()
			message = 0
		}
	}
	for e := range list {
		if left == 0 || len(b.Buf)+longest > room {
			break
		}
		if e.OddKey != "" || !e.To.IsValid() || e.Life.Timeout == 0 || e.Life.Expires == 0 {
			continue
		}
		if message > 0 && len(b.Buf)-message > maxElements {
			end()
		}
		if message == 0 {
			message = len(b.Buf)
			b.opMessage(add, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, 0)
			b.Str(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
			b.Str(unix.NFTA_SET_ELEM_LIST_SET, op.Set.Name())
			elements = b.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		}
		client(&b.builder, op.Set.Kind, &e)
		left--
	}
	end()
}

func client(b *builder, k rules.SetKind, e *Element) {
	at := b.Nest(unix.NFTA_LIST_ELEM)
	b.elementKey(k, &e.Key)
	elementValue(b, k, &e.Element)
	b.U64(unix.NFTA_SET_ELEM_TIMEOUT, e.Life.Timeout)
	b.U64(unix.NFTA_SET_ELEM_EXPIRATION, min(e.Life.Expires, e.Life.Timeout))
	b.Close(at)
}
