// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// guardPause is how often the holder of a lock that others can take away looks for it.
const guardPause = 100 * time.Millisecond

// Lock is a process's wish to be the only one that writes tables, and once that is granted its right. The process has it
// until Close, or its end.
type Lock struct {
	config Config
	locker *locker
	server *server // nil: this process cannot be asked
	record record
	stop   context.CancelFunc
	done   sync.WaitGroup
	held   chan struct{}
	lost   chan error

	mu   sync.Mutex
	self Process
}

// New returns a lock that is not asked for yet. It belongs to the calling thread's network namespace.
func New(c Config) (*Lock, error) {
	l := &Lock{config: c, stop: func() {}, held: make(chan struct{}), lost: make(chan error, 1), self: self(c.Version)}
	l.self.Since, l.self.Socket = time.Now(), c.Socket
	var err error
	if l.locker, err = openLocker(tableName(c.Table)); err != nil {
		return nil, fmt.Errorf("make the lock of table %s: %w", c.Table, err)
	}
	port := l.locker.sock.Port()
	inode, err := inodeOf(port)
	if err != nil {
		l.trouble(err)
	}
	l.record = record{Process: l.self, netlink: netlinkSocket{port, inode}}
	if l.server, err = listen(l.Self); err != nil {
		l.trouble(err)
		l.server = nil
	} else {
		l.record.socket = l.server.random
	}
	return l, nil
}

// Start asks for the lock: if nobody has it, it is held when Start returns. Else it is waited for, until Close. An error
// says that this process may not have it.
func (l *Lock) Start() error {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	by, err := l.try(nil)
	switch {
	case errors.Is(err, unix.EPERM):
		return err
	case by == nil && err == nil:
		l.done.Go(func() { l.guard(ctx) })
	default:
		l.done.Go(func() { l.wait(ctx, by, err) })
	}
	return nil
}

// Held is closed once this process has the lock.
func (l *Lock) Held() <-chan struct{} { return l.held }

// Holds says whether this process has the lock.
func (l *Lock) Holds() bool {
	select {
	case <-l.held:
		return true
	default:
		return false
	}
}

// Lost gets an error when another process has taken the lock after this one: only where the kernel's tables have no owners.
func (l *Lock) Lost() <-chan error { return l.lost }

// Self returns what this process says of itself.
func (l *Lock) Self() Process {
	ready := l.config.Ready != nil && l.config.Ready()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.self.Ready = ready
	return l.self
}

// Close gives the lock up, or the wish for it.
func (l *Lock) Close() error {
	l.stop()
	l.done.Wait()
	var err error
	if l.Holds() && l.locker.noOwners {
		err = l.release()
	}
	err = errors.Join(err, l.locker.sock.Close()) // with it the lock goes, and then those hear of it who wait
	if l.server != nil {
		err = errors.Join(err, l.server.Close())
	}
	return err
}

// release deletes the table, if it is this lock's.
func (l *Lock) release() error {
	gen, err := l.locker.generation()
	if err != nil {
		return err
	}
	c, err := l.locker.read()
	if err != nil || c == nil || c.netlink != l.record.netlink {
		return err
	}
	if err = l.locker.remove(gen); errors.Is(err, errTaken) {
		return nil // the next one finds that it is nobody's
	}
	return err
}

// tries is how often a lock that seems to be free is tried at once.
const tries = 3

// try takes the lock if nobody has it, or returns who has. last had it when it was looked at last. errTaken says that
// things change all the time.
func (l *Lock) try(last *claim) (by *claim, err error) {
	err = errTaken
	for i := 0; i < tries && errors.Is(err, errTaken); i++ {
		if by, err = l.tryOnce(last); by != nil {
			return by, err
		}
	}
	if err == nil {
		close(l.held)
	}
	return nil, err
}

func (l *Lock) tryOnce(last *claim) (by *claim, err error) {
	gen, err := l.locker.generation()
	if err != nil {
		return nil, err
	}
	c, err := l.locker.read()
	if err != nil {
		return nil, err
	}
	if c == nil && last != nil && !last.owned {
		c = last // others may have deleted the table, and its holder makes it again
	}
	l.record.Since = time.Now()
	if c == nil {
		return nil, l.locker.take(l.record)
	}
	if alive, err := c.alive(); alive || err != nil {
		return c, err
	}
	if c == last {
		return nil, l.locker.take(l.record)
	}
	return nil, l.locker.replace(l.record, gen)
}

// guard keeps a lock that others can take away, until ctx is done.
func (l *Lock) guard(ctx context.Context) {
	l.mu.Lock()
	l.self.Since = l.record.Since
	l.mu.Unlock()
	if !l.locker.noOwners {
		return
	}
	for pause(ctx, guardPause, nil) {
		c, err := l.locker.read()
		switch {
		case err != nil:
			l.trouble(err)
		case c == nil:
			if err = l.locker.take(l.record); err != nil && !errors.Is(err, errTaken) {
				l.trouble(err)
			}
		case c.netlink != l.record.netlink:
			l.lost <- fmt.Errorf("keep the lock of table %s: it was deleted, and %s has it now: this process must not write any more", l.config.Table, c)
			return
		}
	}
}

func (l *Lock) trouble(err error) {
	if l.config.Trouble != nil {
		l.config.Trouble(err)
	}
}

// pause waits, also for a channel if that is not nil. It returns false if ctx is done.
func pause(ctx context.Context, d time.Duration, also <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-also:
	}
	return true
}
