// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// Most that is sent at once: some 800 services of 10 endpoints. Small batches load
// faster than large ones (measured with 30,000 services: a fifth), and a long commit
// would hold up its CPU (it has no rescheduling point). Where anybody on the machine
// listens for nftables' events, a commit takes 4 KiB for each element in it, and time.
const maxBatch = 1 << 20

// maxReset is the most that is sent at once where a table is replaced, so that no packet is without: some
// 25,000 services of 10 endpoints.
const maxReset = 32 << 20

// receiveBuffer is how many bytes of answers and events may wait to be read.
const receiveBuffer = 4 << 20

// Apply carries a transaction out. A *rules.Refusal says what the kernel refused and why. After it, unless it
// says that the kernel is Untouched, or any other error, read the state back before the next try.
func (k *Kernel) Apply(tx rules.Tx) (err error) {
	table, ops := tx.Name, tx.Ops()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watch != nil && elements(ops) >= manyElements {
		others, lerr := k.watch.leave()
		if lerr != nil {
			return fmt.Errorf("leave the group of watchers: %w", lerr)
		}
		defer func() { err = errors.Join(err, k.watch.rejoin(others)) }()
	}
	limit := k.limit
	if slices.ContainsFunc(ops, func(o rules.Op) bool { return o.Kind == rules.ResetTable }) {
		if room, rerr := k.sock.SendRoom(maxReset); rerr == nil {
			limit = max(limit, room)
		}
		defer func() { _, _ = k.sock.SendRoom(maxBatch) }()
	}
	b := &k.batch
	b.table = table
	b.reset()
	defer b.forget()
	mark := 0 // where the batch could be cut last
	marked := 0
	cuts := 0
	cut := func() error {
		if len(b.Buf)+headerLen > limit && marked > 0 {
			if err := k.flushUpTo(mark, marked); err != nil {
				return afterCuts(err, cuts)
			}
			cuts++
		}
		mark, marked = len(b.Buf), len(b.refs)
		return nil
	}
	for i := range ops {
		if err := b.units(&ops[i], cut); err != nil {
			var refused *rules.Refusal
			if errors.As(err, &refused) {
				return err
			}
			return fmt.Errorf("%s: %w", ops[i].Object(table), err)
		}
	}
	return afterCuts(k.flush(), cuts)
}

// manyElements is how many elements a transaction has that the kernel had better write while we do not
// watch: with somebody to tell, it takes four times as long and 4 KiB for each.
const manyElements = 5000

func elements(ops []rules.Op) int {
	n := 0
	for i := range ops {
		n += len(ops[i].Elements)
	}
	return n
}

// afterCuts notes in an error that a part of the transaction was carried out.
func afterCuts(err error, cuts int) error {
	var refused *rules.Refusal
	if errors.As(err, &refused) {
		refused.Untouched = cuts == 0
	}
	return err
}

// flushUpTo sends the batch up to a mark and begins the next with what is behind it.
func (k *Kernel) flushUpTo(mark, refs int) error {
	b := &k.batch
	rest := append([]byte(nil), b.Buf[mark:]...)
	restRefs := append([]msgRef(nil), b.refs[refs:]...)
	b.Buf, b.refs = b.Buf[:mark], b.refs[:refs]
	if err := k.flush(); err != nil {
		return err
	}
	b.reset()
	moved := len(b.Buf)
	b.Buf = append(b.Buf, rest...)
	for _, r := range restRefs {
		r.start += moved - mark
		b.refs = append(b.refs, r)
	}
	return nil
}

// flush sends the batch and reads the kernel's answer, which is there when send
// returns.
func (k *Kernel) flush() error {
	b := &k.batch
	if len(b.refs) == 0 {
		return nil
	}
	b.seal()
	start := time.Now()
	defer func() { k.busy += time.Since(start) }()
	var a answer
	var lost bool
	var err error
	a.acked, lost, err = k.sock.Transact(b.Buf, func(i int, e *nfnetlink.Error) { b.note(&a, i, e) })
	if err != nil {
		return fmt.Errorf("send a transaction and read its answer: %w", err)
	}
	if lost && a.said.Errno == 0 { // so many errors that they did not fit
		a.said.Errno = unix.ENOBUFS
	}
	if err := a.refusal(); err != nil {
		return err
	}
	if !a.acked {
		return errors.New("the kernel gave no answer to a transaction: read the tables back")
	}
	k.commits.ours++
	return nil
}

// note adds the error about a message of the batch to an answer.
func (b *batch) note(a *answer, message int, e *nfnetlink.Error) {
	if a.said.Errno == 0 {
		a.said.Errno = e.Errno
	}
	if e.Message != "" {
		a.said.Message = e.Message
	}
	i := message - 1
	if i < 0 || i >= len(b.refs) {
		return // the whole batch: the error came with the commit
	}
	ref := b.refs[i]
	o := ref.op.Object(b.table)
	if len(ref.op.Elements) > 0 {
		o.Element = &ref.op.Elements[min(ref.elem+b.elementAt(ref.start, e.Offset), len(ref.op.Elements)-1)]
	}
	a.objects = append(a.objects, o)
}

// elementAt returns which element of the message at start has the byte at an
// offset in the message, 0 if none has.
func (b *batch) elementAt(start, offset int) int {
	found := 0
	if offset < headerLen {
		return 0
	}
	msg := b.Buf[start : start+int(binary.NativeEndian.Uint32(b.Buf[start:]))]
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
