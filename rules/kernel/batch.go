// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// headerLen is the length of a message without attributes.
const headerLen = nfnetlink.HeaderLen

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
	refs  []msgRef
	sets  uint32 // declared so far: each has a number that no other of its batch has
}

// msgRef tells which operation a message belongs to: refs[i] is that of the message after the i-th, as the first one
// begins the batch.
type msgRef struct {
	op    *rules.Op
	elem  int // index of the message's first element in op.Elements
	start int // of the message in the buffer
}

// reset begins a batch.
func (b *batch) reset() {
	b.Buf, b.refs = b.Buf[:0], b.refs[:0]
	b.Message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
}

// forget gives up memory that an unusual transaction took.
func (b *batch) forget() {
	if cap(b.Buf) > 2*maxBatch {
		b.Buf, b.refs = nil, nil
	}
}

// ref notes that a message of op comes next, with its elements from one on.
func (b *batch) ref(op *rules.Op, elem int) {
	b.refs = append(b.refs, msgRef{op, elem, len(b.Buf)})
}

// opMessage begins a message of an operation.
func (b *batch) opMessage(op *rules.Op, typ, flags uint16, elem int) {
	b.ref(op, elem)
	b.message(typ, flags, nfproto(op.Family))
}

// seal asks for an answer to the last message and ends the batch.
func (b *batch) seal() {
	flags := b.Buf[b.refs[len(b.refs)-1].start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	b.Message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
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
	switch op.Kind {
	case rules.ResetTable:
		b.newTable(op, 0)
		b.tableMessage(op, unix.NFT_MSG_DELTABLE, 0)
		b.newTable(op, unix.NLM_F_EXCL)
	case rules.AddTable:
		b.newTable(op, 0)
	case rules.AddSet:
		b.ref(op, 0)
		b.sets++
		b.newSet(op, b.table, b.sets)
	case rules.FillSet:
		b.fillSet(op)
	case rules.DeleteSet:
		b.opMessage(op, unix.NFT_MSG_DELSET, 0, 0)
		b.Str(unix.NFTA_SET_TABLE, b.table)
		b.Str(unix.NFTA_SET_NAME, op.SetName())
		b.End()
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
	b.opMessage(op, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|flags, 0)
	b.Str(unix.NFTA_TABLE_NAME, b.table)
	b.U32(unix.NFTA_TABLE_FLAGS, 0)
	b.End()
}

func (b *batch) tableMessage(op *rules.Op, typ, flags uint16) {
	b.opMessage(op, typ, flags, 0)
	b.Str(unix.NFTA_TABLE_NAME, b.table)
	b.End()
}

// chainMessage is a message that names a chain only.
func (b *batch) chainMessage(op *rules.Op, typ, chainAttr uint16) {
	b.opMessage(op, typ, 0, 0)
	b.Str(unix.NFTA_CHAIN_TABLE, b.table) // NFTA_RULE_TABLE is the same
	b.Str(chainAttr, op.Chain.Name)
	b.End()
}

func (b *batch) newChain(op *rules.Op) {
	b.opMessage(op, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0)
	b.Str(unix.NFTA_CHAIN_TABLE, b.table)
	b.Str(unix.NFTA_CHAIN_NAME, op.Chain.Name)
	if h := op.Chain.Hook; h != nil {
		at := b.Nest(unix.NFTA_CHAIN_HOOK)
		b.U32(unix.NFTA_HOOK_HOOKNUM, uint32(h.Number))
		b.U32(unix.NFTA_HOOK_PRIORITY, uint32(h.Priority))
		b.Close(at)
		b.U32(unix.NFTA_CHAIN_POLICY, policyAccept)
		b.Str(unix.NFTA_CHAIN_TYPE, chainType)
	}
	b.End()
}

func (b *batch) newRules(op *rules.Op) error {
	for _, r := range op.Chain.Rules {
		b.opMessage(op, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, 0)
		b.Str(unix.NFTA_RULE_TABLE, b.table)
		b.Str(unix.NFTA_RULE_CHAIN, op.Chain.Name)
		at := b.Nest(unix.NFTA_RULE_EXPRESSIONS)
		for _, s := range r {
			exprs, err := encode(op.Family, s)
			if err != nil {
				return err
			}
			if err := b.expressions(nfproto(op.Family), exprs); err != nil {
				return err
			}
		}
		b.Close(at)
		b.End()
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
	b.opMessage(op, unix.NFT_MSG_DELSETELEM, 0, 0)
	b.Str(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
	b.Str(unix.NFTA_SET_ELEM_LIST_SET, op.Set.Name())
	b.End()
	for at := 0; at < len(op.Elements); {
		at = b.elementMessage(op, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, at, len(op.Elements))
	}
}

// elementMessage writes op's elements from one on, up to another or until the
// message is full, and returns the first that it did not write.
func (b *batch) elementMessage(op *rules.Op, typ, flags uint16, from, to int) int {
	b.opMessage(op, typ, flags, from)
	b.Str(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
	b.Str(unix.NFTA_SET_ELEM_LIST_SET, op.Set.Name())
	list := b.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	for from < to && len(b.Buf)-list < maxElements {
		b.element(op.Set.Kind, &op.Elements[from], typ == unix.NFT_MSG_DELSETELEM)
		from++
	}
	b.Close(list)
	b.End()
	return from
}
