// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// traceGroup is NFNLGRP_NFTRACE.
const traceGroup = 9

// receiveBuffer is how many bytes of events may wait to be read.
const receiveBuffer = 4 << 20

// Trace is tracing that goes on.
type Trace struct {
	sock *nfnetlink.Socket // owns the table and gets the events
}

// StartTrace begins to trace new connections in the calling thread's network namespace.
// Nothing happens to packets by it.
func StartTrace(filter wire.TraceFilter) (*Trace, error) {
	sock, err := nfnetlink.Open(nfnetlink.Options{ReceiveBuffer: receiveBuffer})
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	t := &Trace{sock: sock}
	if err := t.mark(filter); err != nil {
		_ = t.Close()
		if errors.Is(err, unix.EINVAL) {
			return nil, fmt.Errorf("trace: the kernel has no tables that go with the program that made them; it takes Linux 5.12: %w", err)
		}
		return nil, fmt.Errorf("trace: add table %s, which chooses what is traced (is another trace running?): %w", wire.TraceTable, err)
	}
	if err := sock.Join(traceGroup); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("trace: %w", err)
	}
	return t, nil
}

// mark makes the table, which goes with its socket.
func (t *Trace) mark(filter wire.TraceFilter) error {
	batch, err := filter.Table()
	if err != nil {
		return err
	}
	var errs []error
	acked, lost, err := t.sock.Transact(batch, func(_ int, e *nfnetlink.Error) { errs = append(errs, e) })
	switch {
	case err != nil || len(errs) > 0:
	case lost: // it may be a refusal
		err = errors.New("the kernel's answer was lost")
	case !acked:
		err = errors.New("the kernel gave no answer")
	}
	return errors.Join(append(errs, err)...)
}

// Next calls fn for each event until ctx ends, and lost where there were more events than could be read. It calls pause every few
// moments, when no event waits: what a packet met is known then, however long this process had to wait for a processor. Where
// events never end it does so all the same.
func (t *Trace) Next(ctx context.Context, fn func(wire.TraceEvent), pause, lost func()) error {
	const moment, most = 20 * time.Millisecond, 100 * time.Millisecond
	for ctx.Err() == nil {
		ready, err := t.sock.Wait(ctx, moment)
		for start := time.Now(); err == nil && ready && ctx.Err() == nil && time.Since(start) < most; {
			if err = t.receive(fn, lost); err == nil {
				ready, err = t.sock.Wait(ctx, 0)
			}
		}
		if err != nil {
			return fmt.Errorf("trace: %w", err)
		}
		pause()
	}
	return nil
}

// receive reads some events that wait.
func (t *Trace) receive(fn func(wire.TraceEvent), lost func()) error {
	_, err := t.sock.Receive(false, func(m nfnetlink.Message) {
		if e, ok := wire.ParseTrace(m); ok {
			fn(e)
		}
	})
	if errors.Is(err, unix.ENOBUFS) {
		lost()
		return nil
	}
	return err
}

// Rejects says whether a rule, named by its handle, refuses packets: it tells their senders.
func (i *Inspector) Rejects(family, table, chain string, handle uint64) (yes bool, err error) {
	request, err := wire.GetRule(family, table, chain, handle)
	if err != nil {
		return false, err
	}
	err = i.ask(request, func(v nfnetlink.Data) { yes = yes || wire.HasExpression(v, "reject") })
	return yes, err
}

// Close ends tracing: its table goes.
func (t *Trace) Close() error { return t.sock.Close() }
