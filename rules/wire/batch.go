// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// headerLen is the length of a message without attributes.
const headerLen = nfnetlink.HeaderLen

// policyAccept is NF_ACCEPT, the policy of all our base chains.
const policyAccept = 1

// Most bytes of elements in a message: an attribute's length has 16 bits.
const maxElements = 60000

// Batch is a transaction as messages, in Buf. The zero value is begun with Begin, and sent after Seal.
type Batch struct {
	builder
	table string       // that what is written is about
	since []tableSince // tables, in the order of their messages
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

// tableSince is a table that messages from one on are about.
type tableSince struct {
	message int
	table   string
}

// Begin begins a batch about tables of a name. Memory of the last one is used again.
func (b *Batch) Begin(table string) {
	b.since = b.since[:0]
	b.refs = b.refs[:0]
	b.In(table)
	b.begin()
}

func (b *Batch) begin() {
	b.Buf, b.refs = b.Buf[:0], b.refs[:0]
	b.Message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
}

// Free gives up memory beyond so many bytes.
func (b *Batch) Free(most int) {
	if cap(b.Buf) > most {
		b.Buf, b.refs = nil, nil
	}
}

// Empty says whether there is nothing to carry out.
func (b *Batch) Empty() bool { return len(b.refs) == 0 }

// Mark is a place in a batch where it can be cut.
type Mark struct{ bytes, messages int }

// Mark returns the end of what was written so far.
func (b *Batch) Mark() Mark { return Mark{len(b.Buf), len(b.refs)} }

// Empty says whether there is nothing to carry out before the mark.
func (m Mark) Empty() bool { return m.messages == 0 }

// Rest is what was cut off a batch.
type Rest struct {
	buf  []byte
	refs []msgRef
	from int // where it was
}

// Cut cuts off what is behind a mark.
func (b *Batch) Cut(m Mark) Rest {
	r := Rest{slices.Clone(b.Buf[m.bytes:]), slices.Clone(b.refs[m.messages:]), m.bytes}
	b.Buf, b.refs = b.Buf[:m.bytes], b.refs[:m.messages]
	return r
}

// BeginWith begins the batch that goes on with what was cut off.
func (b *Batch) BeginWith(r Rest) {
	b.begin()
	moved := len(b.Buf) - r.from
	b.Buf = append(b.Buf, r.buf...)
	for _, ref := range r.refs {
		ref.start += moved
		b.refs = append(b.refs, ref)
	}
}

// ref notes that a message of op comes next, with its elements from one on.
func (b *Batch) ref(op *rules.Op, elem int) {
	b.refs = append(b.refs, msgRef{op, elem, len(b.Buf)})
}

// opMessage begins a message of an operation.
func (b *Batch) opMessage(op *rules.Op, typ, flags uint16, elem int) {
	b.ref(op, elem)
	b.message(typ, flags, NFProto(op.Family))
}

// Seal asks for an answer to the last message and ends the batch.
func (b *Batch) Seal() {
	flags := b.Buf[b.refs[len(b.refs)-1].start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	b.Message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
}

// Add writes the messages of an operation and calls cut after each group of
// them that may be the end of a batch.
func (b *Batch) Add(op *rules.Op, cut func() error) error {
	switch op.Kind {
	case rules.AddElements, rules.ReplaceElements, rules.DeleteElements:
		return b.elementUnits(op, cut)
	}
	if err := b.object(op); err != nil {
		return err
	}
	return cut()
}

func (b *Batch) object(op *rules.Op) error {
	switch op.Kind {
	case rules.ResetTable:
		b.newTable(op, 0, false) // unless there is one, whatever flags that has
		b.DeleteTable(op.Family)
		b.newTable(op, unix.NLM_F_EXCL, true)
	case rules.AddTable:
		b.newTable(op, 0, true)
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

func (b *Batch) newTable(op *rules.Op, flags uint16, withFlags bool) {
	b.opMessage(op, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|flags, 0)
	b.Str(unix.NFTA_TABLE_NAME, b.table)
	switch {
	case withFlags && op.Owned:
		b.U32(unix.NFTA_TABLE_FLAGS, tableOwner|tablePersist)
	case withFlags:
		b.U32(unix.NFTA_TABLE_FLAGS, 0)
	}
	b.End()
}

// In says which table what follows is about.
func (b *Batch) In(table string) {
	b.table = table
	b.since = append(b.since, tableSince{len(b.refs), table})
}

// tableOf returns which table the i-th message is about.
func (b *Batch) tableOf(i int) string {
	for _, s := range slices.Backward(b.since) {
		if i >= s.message {
			return s.table
		}
	}
	return ""
}

// DeleteTable deletes the table of a family.
func (b *Batch) DeleteTable(f rules.Family) {
	b.opMessage(&rules.Op{Kind: rules.ResetTable, Family: f}, unix.NFT_MSG_DELTABLE, 0, 0)
	b.Str(unix.NFTA_TABLE_NAME, b.table)
	b.End()
}

// chainMessage is a message that names a chain only.
func (b *Batch) chainMessage(op *rules.Op, typ, chainAttr uint16) {
	b.opMessage(op, typ, 0, 0)
	b.Str(unix.NFTA_CHAIN_TABLE, b.table) // NFTA_RULE_TABLE is the same
	b.Str(chainAttr, op.Chain.Name)
	b.End()
}

func (b *Batch) newChain(op *rules.Op) {
	b.opMessage(op, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0)
	b.Str(unix.NFTA_CHAIN_TABLE, b.table)
	b.Str(unix.NFTA_CHAIN_NAME, op.Chain.Name)
	if h := op.Chain.Hook; h != nil {
		at := b.Nest(unix.NFTA_CHAIN_HOOK)
		b.U32(unix.NFTA_HOOK_HOOKNUM, uint32(h.Number))
		b.U32(unix.NFTA_HOOK_PRIORITY, uint32(h.Priority)) //nolint:gosec // the attribute has the bits
		b.Close(at)
		b.U32(unix.NFTA_CHAIN_POLICY, policyAccept)
		b.Str(unix.NFTA_CHAIN_TYPE, h.Type())
	}
	b.End()
}

func (b *Batch) newRules(op *rules.Op) error {
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
			if err := b.expressions(NFProto(op.Family), exprs); err != nil {
				return err
			}
		}
		b.Close(at)
		b.End()
	}
	return nil
}

// elementUnits writes the elements in as few messages as their lengths allow.
func (b *Batch) elementUnits(op *rules.Op, cut func() error) error {
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
func (b *Batch) fillSet(op *rules.Op) {
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
func (b *Batch) elementMessage(op *rules.Op, typ, flags uint16, from, to int) int {
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

// RuleRef is a rule by its chain and the kernel's handle.
type RuleRef struct {
	Chain  string
	Handle uint64
}

// DeleteChains deletes chains, with their rules, and rules of other chains, which jump to them.
func (b *Batch) DeleteChains(f rules.Family, chains []string, jumps []RuleRef) {
	for _, r := range jumps {
		b.opMessage(&rules.Op{Kind: rules.DeleteChain, Family: f, Chain: rules.Chain{Name: r.Chain}}, unix.NFT_MSG_DELRULE, 0, 0)
		b.Str(unix.NFTA_RULE_TABLE, b.table)
		b.Str(unix.NFTA_RULE_CHAIN, r.Chain)
		b.U64(unix.NFTA_RULE_HANDLE, r.Handle)
		b.End()
	}
	ops := make([]*rules.Op, len(chains))
	for i, name := range chains {
		ops[i] = &rules.Op{Kind: rules.DeleteChain, Family: f, Chain: rules.Chain{Name: name}}
		b.chainMessage(ops[i], unix.NFT_MSG_DELRULE, unix.NFTA_RULE_CHAIN)
	}
	for _, op := range ops {
		b.chainMessage(op, unix.NFT_MSG_DELCHAIN, unix.NFTA_CHAIN_NAME)
	}
}
