// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
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
	if k.watch != nil && work(ops) >= muchWork {
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
	b.Begin(table)
	defer b.Free(2 * maxBatch)
	var mark wire.Mark // where the batch could be cut last
	cuts := 0
	cut := func() error {
		if len(b.Buf)+nfnetlink.HeaderLen > limit && !mark.Empty() {
			if ferr := k.flushUpTo(mark); ferr != nil {
				return afterCuts(ferr, cuts)
			}
			cuts++
		}
		mark = b.Mark()
		return nil
	}
	for i := range ops {
		if aerr := b.Add(&ops[i], cut); aerr != nil {
			var refused *rules.Refusal
			if errors.As(aerr, &refused) {
				return aerr
			}
			return fmt.Errorf("%s: %w", ops[i].Object(table), aerr)
		}
	}
	maps := replaced(ops)
	if cuts > 0 || len(maps) == 0 {
		return afterCuts(k.commit(b), cuts)
	}
	mark = b.Mark()
	if keepClients(&k.conn, table, maps, limit-2*nfnetlink.HeaderLen); b.Mark() == mark {
		return k.commit(b)
	}
	err = k.commit(b)
	if aboutAny(err, maps) { // then without the clients
		b.Cut(mark)
		err = k.commit(b)
	}
	return err
}

// muchWork is how many elements a transaction has that the kernel had better write while we do not
// watch: with somebody to tell, it takes four times as long and 4 KiB for each.
const muchWork = 5000

// work counts the elements of a transaction, and a chain with its rules for ten.
func work(ops []rules.Op) int {
	n := 0
	for i := range ops {
		if n += len(ops[i].Elements); ops[i].Chain.Name != "" {
			n += 10
		}
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
func (k *conn) flushUpTo(m wire.Mark) error {
	rest := k.batch.Cut(m)
	if err := k.commit(&k.batch); err != nil {
		return err
	}
	k.batch.BeginWith(rest)
	return nil
}

// Commit carries out a batch that was begun and filled elsewhere, in one transaction. Its errors are Apply's.
func (k *Kernel) Commit(b *wire.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.commit(b)
}

// commit sends a batch and reads the kernel's answer.
func (k *conn) commit(b *wire.Batch) error {
	if b.Empty() {
		return nil
	}
	b.Seal()
	start := time.Now()
	defer func() { k.busy += time.Since(start) }()
	var a answer
	var lost bool
	var err error
	a.acked, lost, err = k.sock.Transact(b.Buf, func(i int, e *nfnetlink.Error) { a.note(b, i, e) })
	if err != nil {
		return fmt.Errorf("send a transaction and read its answer: %w", err)
	}
	if a.said.Errno == unix.EPERM && len(a.objects) > 0 {
		a.said.Held = k.heldBy(a.objects[0])
	}
	if err := a.refusal(); err != nil {
		return err
	}
	if lost { // errors, or the acknowledgement that it was carried out
		return fmt.Errorf("the kernel's answer to a transaction was lost: read the tables back: %w", unix.ENOBUFS)
	}
	if !a.acked {
		return errors.New("the kernel gave no answer to a transaction: read the tables back")
	}
	k.ours++
	return nil
}
