// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// headerLen is the length of a message without attributes.
const headerLen = unix.NLMSG_HDRLEN + 4

// All our base chains are of one type, and their policy is NF_ACCEPT.
const (
	chainType    = "nat"
	policyAccept = 1
)

// Most bytes of elements in a message: an attribute's length has 16 bits.
const maxElements = 60000

// batch is a transaction on its way to the kernel.
type batch struct {
	builder
	table string
	sock  *socket
	first uint32 // sequence number of the first message
	refs  []msgRef
}

// msgRef tells which operation a message belongs to: refs[i] is that of the
// message with sequence number first+i.
type msgRef struct {
	op    *rules.Op
	elem  int // index of the message's first element in op.Elements
	start int // of the message in the buffer
}

func (b *batch) reset() {
	b.buf = b.buf[:0]
	b.refs = b.refs[:0]
	b.header(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, b.sock.nextSeq())
	b.end()
	b.first = b.sock.seq + 1
}

// forget gives up memory that an unusual transaction took.
func (b *batch) forget() {
	if cap(b.buf) > 2*maxBatch {
		b.buf, b.refs = nil, nil
	}
}

// seqFor notes that a message of op comes next, and returns its number.
func (b *batch) seqFor(op *rules.Op, elem int) uint32 {
	b.refs = append(b.refs, msgRef{op, elem, len(b.buf)})
	return b.sock.nextSeq()
}

// seal asks for an answer to the last message and ends the batch.
func (b *batch) seal() {
	flags := b.buf[b.refs[len(b.refs)-1].start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	b.header(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, b.sock.nextSeq())
	b.end()
}

// units writes the messages of an operation and calls cut after each group of
// them that may be the end of a batch.
func (b *batch) units(op *rules.Op, cut func() error) error {
	switch op.Kind {
	case rules.AddElements, rules.ReplaceElements, rules.DeleteElements:
		return b.elementUnits(op, cut)
	}
	if err := b.object(op); err != nil {
		return err
	}
	return cut()
}

func (b *batch) object(op *rules.Op) error {
	f := op.Family
	switch op.Kind {
	case rules.ResetTable:
		b.newTable(op, 0)
		b.tableMessage(op, unix.NFT_MSG_DELTABLE, 0)
		b.newTable(op, unix.NLM_F_EXCL)
	case rules.AddTable:
		b.newTable(op, 0)
	case rules.AddSet:
		b.newSet(op, b.table, b.seqFor(op, 0))
	case rules.FillSet:
		b.fillSet(op)
	case rules.DeleteSet:
		b.message(unix.NFT_MSG_DELSET, 0, nfproto(f), b.seqFor(op, 0))
		b.str(unix.NFTA_SET_TABLE, b.table)
		b.str(unix.NFTA_SET_NAME, op.SetName())
		b.end()
	case rules.DeleteObject:
		b.deleteObject(op)
	case rules.AddChain:
		b.newChain(op)
		return b.newRules(op)
	case rules.ReplaceChain:
		b.chainMessage(op, unix.NFT_MSG_DELRULE, unix.NFTA_RULE_CHAIN)
		return b.newRules(op)
	case rules.DeleteChain:
		b.chainMessage(op, unix.NFT_MSG_DELRULE, unix.NFTA_RULE_CHAIN)
		b.chainMessage(op, unix.NFT_MSG_DELCHAIN, unix.NFTA_CHAIN_NAME)
	default:
		return fmt.Errorf("encode operation: kind %d is not known", op.Kind)
	}
	return nil
}

func (b *batch) newTable(op *rules.Op, flags uint16) {
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|flags, nfproto(op.Family), b.seqFor(op, 0))
	b.str(unix.NFTA_TABLE_NAME, b.table)
	b.u32(unix.NFTA_TABLE_FLAGS, 0)
	b.end()
}

func (b *batch) tableMessage(op *rules.Op, typ, flags uint16) {
	b.message(typ, flags, nfproto(op.Family), b.seqFor(op, 0))
	b.str(unix.NFTA_TABLE_NAME, b.table)
	b.end()
}

// chainMessage is a message that names a chain only.
func (b *batch) chainMessage(op *rules.Op, typ, chainAttr uint16) {
	b.message(typ, 0, nfproto(op.Family), b.seqFor(op, 0))
	b.str(unix.NFTA_CHAIN_TABLE, b.table) // NFTA_RULE_TABLE is the same
	b.str(chainAttr, op.Chain.Name)
	b.end()
}

func (b *batch) newChain(op *rules.Op) {
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nfproto(op.Family), b.seqFor(op, 0))
	b.str(unix.NFTA_CHAIN_TABLE, b.table)
	b.str(unix.NFTA_CHAIN_NAME, op.Chain.Name)
	if h := op.Chain.Hook; h != nil {
		at := b.nest(unix.NFTA_CHAIN_HOOK)
		b.u32(unix.NFTA_HOOK_HOOKNUM, uint32(h.Number))
		b.u32(unix.NFTA_HOOK_PRIORITY, uint32(h.Priority))
		b.close(at)
		b.u32(unix.NFTA_CHAIN_POLICY, policyAccept)
		b.str(unix.NFTA_CHAIN_TYPE, chainType)
	}
	b.end()
}

func (b *batch) newRules(op *rules.Op) error {
	for _, r := range op.Chain.Rules {
		b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, nfproto(op.Family), b.seqFor(op, 0))
		b.str(unix.NFTA_RULE_TABLE, b.table)
		b.str(unix.NFTA_RULE_CHAIN, op.Chain.Name)
		at := b.nest(unix.NFTA_RULE_EXPRESSIONS)
		for _, s := range r {
			exprs, err := encode(op.Family, s)
			if err != nil {
				return err
			}
			if err := b.expressions(op.Family, exprs); err != nil {
				return err
			}
		}
		b.close(at)
		b.end()
	}
	return nil
}

// elementUnits writes the elements in as few messages as their lengths allow.
func (b *batch) elementUnits(op *rules.Op, cut func() error) error {
	for at := 0; at < len(op.Elements); {
		var n int
		switch op.Kind {
		case rules.AddElements:
			n = b.elementMessage(op, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, at, len(op.Elements))
		case rules.DeleteElements:
			n = b.elementMessage(op, unix.NFT_MSG_DELSETELEM, 0, at, len(op.Elements))
		default: // deleted and added again in one batch, so that no packet misses them
			n = b.elementMessage(op, unix.NFT_MSG_DELSETELEM, 0, at, min(at+300, len(op.Elements)))
			b.elementMessage(op, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, at, n)
		}
		at = n
		if err := cut(); err != nil {
			return err
		}
	}
	return nil
}

// fillSet empties the set and adds the elements, which stay in one batch.
func (b *batch) fillSet(op *rules.Op) {
	b.message(unix.NFT_MSG_DELSETELEM, 0, nfproto(op.Family), b.seqFor(op, 0))
	b.str(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
	b.str(unix.NFTA_SET_ELEM_LIST_SET, op.Set.Name())
	b.end()
	for at := 0; at < len(op.Elements); {
		at = b.elementMessage(op, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, at, len(op.Elements))
	}
}

// elementMessage writes op's elements from one on, up to another or until the
// message is full, and returns the first that it did not write.
func (b *batch) elementMessage(op *rules.Op, typ, flags uint16, from, to int) int {
	b.message(typ, flags, nfproto(op.Family), b.seqFor(op, from))
	b.str(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
	b.str(unix.NFTA_SET_ELEM_LIST_SET, op.Set.Name())
	list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	for from < to && len(b.buf)-list < maxElements {
		b.element(op.Set.Kind, &op.Elements[from], typ == unix.NFT_MSG_DELSETELEM)
		from++
	}
	b.close(list)
	b.end()
	return from
}
