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

	"github.com/nftproxy/nftproxy/rules"
)

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
	limit := k.sock.limit
	if slices.ContainsFunc(ops, func(o rules.Op) bool { return o.Kind == rules.ResetTable }) {
		limit = k.sock.widen()
		defer k.sock.narrow()
	}
	b := &k.batch
	b.table, b.sock = table, k.sock
	b.reset()
	defer b.forget()
	mark := 0 // where the batch could be cut last
	marked := 0
	cuts := 0
	cut := func() error {
		if len(b.buf)+headerLen > limit && marked > 0 {
			if err := k.flushUpTo(mark, marked); err != nil {
				return afterCuts(err, cuts)
			}
			cuts++
		}
		mark, marked = len(b.buf), len(b.refs)
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
	rest := append([]byte(nil), b.buf[mark:]...)
	restRefs := append([]msgRef(nil), b.refs[refs:]...)
	b.buf, b.refs = b.buf[:mark], b.refs[:refs]
	if err := k.flush(); err != nil {
		return err
	}
	b.reset()
	moved := len(b.buf)
	b.buf = append(b.buf, rest...)
	for _, r := range restRefs {
		r.start += moved - mark
		b.refs = append(b.refs, r)
		// The numbers go on from this batch's first message.
		binary.NativeEndian.PutUint32(b.buf[r.start+8:], k.sock.nextSeq())
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
	if err := k.sock.send(b.buf); err != nil {
		return fmt.Errorf("send transaction of %d bytes: %w", len(b.buf), err)
	}
	a, err := b.answer()
	if err != nil {
		return fmt.Errorf("read the answer to a transaction: %w", err)
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

// answer reads the kernel's answer to the batch, and nothing that was left over from an earlier request.
func (b *batch) answer() (*answer, error) {
	a := &answer{}
	begin, end := b.first-1, b.sock.seq // an error about the whole batch is an answer to its begin
	for {
		more, err := b.sock.receive(false, func(m message) error {
			if m.typ != unix.NLMSG_ERROR || len(m.data) < 4 || m.seq-begin > end-begin {
				return nil
			}
			errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.data)))
			if errno == 0 {
				a.acked = true
				return nil
			}
			b.note(a, m, errno)
			return nil
		})
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return nil, err
		}
		if err != nil && a.said.Errno == 0 { // so many errors that they did not fit
			a.said.Errno = unix.ENOBUFS
		}
		if err == nil && !more {
			return a, nil
		}
	}
}

// note adds what an error message says to an answer.
func (b *batch) note(a *answer, m message, errno unix.Errno) {
	offset := 0
	if m.flags&unix.NLM_F_ACK_TLVS != 0 && len(m.data) > 4+unix.NLMSG_HDRLEN {
		eachAttr(m.data[4+unix.NLMSG_HDRLEN:], func(typ uint16, v []byte) {
			switch typ {
			case unix.NLMSGERR_ATTR_MSG:
				a.said.Message = text(v)
			case unix.NLMSGERR_ATTR_OFFS:
				offset = int(host32of(v))
			}
		})
	}
	if a.said.Errno == 0 {
		a.said.Errno = errno
	}
	i := int(m.seq - b.first)
	if i < 0 || i >= len(b.refs) {
		return // the whole batch: the error came with the commit
	}
	ref := b.refs[i]
	o := ref.op.Object(b.table)
	if len(ref.op.Elements) > 0 {
		o.Element = &ref.op.Elements[min(ref.elem+b.elementAt(ref.start, offset), len(ref.op.Elements)-1)]
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
	msg := b.buf[start : start+int(binary.NativeEndian.Uint32(b.buf[start:]))]
	eachAttr(msg[headerLen:], func(typ uint16, list []byte) {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		at, i := cap(msg)-cap(list), 0
		eachAttr(list, func(_ uint16, e []byte) {
			if offset >= at {
				found = i
			}
			at += unix.SizeofNlAttr + align(len(e))
			i++
		})
	})
	return found
}
