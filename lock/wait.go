// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lock

import (
	"context"
	"errors"
	"io"
	"time"
)

// How long those wait who want the lock before they look at it again.
const (
	// waitPause is for those who are not connected to the holder, connectedPause for those who are.
	waitPause      = 50 * time.Millisecond
	connectedPause = time.Second
	// goingPause is for the time after the holder's socket was closed, for goingTime: its lock goes within milliseconds.
	goingPause = time.Millisecond
	goingTime  = 200 * time.Millisecond
)

// waiter waits for a lock. Its goroutine has it.
type waiter struct {
	*Lock
	last  *claim // who was seen to have the lock last
	told  string // the socket of whom was told of last
	fault string // what was told of last

	peer  *peer         // the holder; nil: not connected
	to    string        // its socket, also when the connection has ended
	gone  chan struct{} // closed when the connection is
	said  Process       // what the holder was told of this process
	going time.Time     // until then it is expected to go
}

// wait waits until the lock is held, and guards it then, until ctx is done. by has it now, or err says why it cannot be had.
func (l *Lock) wait(ctx context.Context, by *claim, err error) {
	w := &waiter{Lock: l}
	defer w.disconnect()
	for err != nil || by != nil {
		w.note(by, err)
		if !w.pause(ctx) {
			return
		}
		by, err = l.try(w.last)
	}
	w.disconnect()
	l.guard(ctx)
}

// note takes note of who has the lock.
func (w *waiter) note(by *claim, err error) {
	if err != nil && !errors.Is(err, errTaken) && err.Error() != w.fault {
		w.fault = err.Error()
		w.trouble(err)
	}
	if by == nil {
		return
	}
	w.last = by
	if w.to != by.socket { // another one was faster
		w.disconnect()
		w.going = time.Time{}
	}
	if time.Now().Before(w.going) {
		return // nobody listens there any more
	}
	var failed error
	if w.peer == nil {
		failed = w.connect(by.socket)
	}
	w.tell(by, failed)
	w.say()
}

// tell tells of a holder, once.
func (w *waiter) tell(by *claim, err error) {
	key := by.text()
	if key == w.told {
		return
	}
	w.told = key
	holder := by.Process
	if w.peer != nil && w.peer.pid != 0 {
		holder.PID, holder.PIDNamespace = w.peer.pid, pidNamespace()
	}
	if w.config.Waits != nil {
		w.config.Waits(holder, err)
	}
}

// connect connects to the holder.
func (w *waiter) connect(socket string) error {
	p, err := dial(socket)
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	w.peer, w.to, w.gone, w.said = p, socket, gone, Process{}
	w.done.Go(func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, p) // its answers
	})
	return nil
}

func (w *waiter) disconnect() {
	if w.peer != nil {
		w.peer.end()
		<-w.gone
		w.peer, w.gone = nil, nil
	}
}

// say tells the holder of this process, if it does not know.
func (w *waiter) say() {
	now := w.Self()
	if w.peer == nil || now == w.said {
		return
	}
	if w.peer.say(hello{Waiting: &now}) == nil {
		w.said = now
	}
}

// pause waits until the lock should be tried again. It returns false if ctx is done.
func (w *waiter) pause(ctx context.Context) bool {
	d := waitPause
	switch {
	case time.Now().Before(w.going):
		d = goingPause
	case w.peer != nil:
		d = connectedPause
	}
	if !pause(ctx, d, w.gone) {
		return false
	}
	select {
	case <-w.gone: // nil if there is no connection
		w.disconnect()
		w.going = time.Now().Add(goingTime)
	default:
	}
	return true
}
