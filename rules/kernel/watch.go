// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// Watch tells when somebody else changes the tables.
type Watch struct {
	kernel  *Kernel
	sock    *socket
	stop    int // eventfd that ends the wait
	table   string
	changed chan struct{}
	done    sync.WaitGroup

	mu    sync.Mutex // guards heard
	heard heard
}

// Watch prepares to watch the tables of a name for changes that do not come from k.
// It belongs to the calling thread's network namespace, which must be k's.
func (k *Kernel) Watch(table string) (*Watch, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	w := &Watch{kernel: k, sock: s, table: table, changed: make(chan struct{}, 1)}
	if w.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		_ = s.close()
		return nil, fmt.Errorf("watch nftables: make eventfd: %w", err)
	}
	return w, nil
}

// Join begins to watch. It is called once, best when all is loaded: with somebody to
// tell, the kernel takes three times as long for a full load. What was changed since k
// read the tables is noticed, too.
func (w *Watch) Join() error {
	k := w.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := w.sock.ignore(k.sock.port); err != nil {
		return fmt.Errorf("watch nftables: attach filter: %w", err)
	}
	if err := w.rejoin(k.commits.seen); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	k.watch = w
	w.done.Go(w.run)
	return nil
}

// leave ends the watch for a while, and returns how many commits of others there were before.
// The kernel's mutex is held, as for rejoin.
func (w *Watch) leave() (others uint32, err error) {
	_, others, err = w.kernel.others()
	if err == nil {
		w.sock.leave()
	}
	return others, err
}

// rejoin goes on with the watch. It tells of a change if there were more commits of others
// meanwhile, whatever they changed.
func (w *Watch) rejoin(others uint32) error {
	if err := w.sock.join(); err != nil {
		return fmt.Errorf("join event group: %w", err)
	}
	_, now, err := w.kernel.others()
	if err == nil && now != others {
		w.mu.Lock()
		w.heard.everything()
		w.mu.Unlock()
		w.signal()
	}
	return err
}

// Changed gets a value when the tables may have been changed by somebody else.
// Several changes may give one value.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Touched returns what others have changed since the last call, and who they are, as far as that is known.
func (w *Watch) Touched() rules.Touched {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.heard.touched()
	w.heard = heard{}
	return out
}

// Close ends the watch.
func (w *Watch) Close() error {
	if w.kernel != nil {
		w.kernel.mu.Lock()
		w.kernel.watch = nil
		w.kernel.mu.Unlock()
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, err := unix.Write(w.stop, one[:])
	w.done.Wait()
	return errors.Join(err, w.sock.close(), unix.Close(w.stop))
}

func (w *Watch) run() {
	fds := []unix.PollFd{{Fd: int32(w.sock.fd), Events: unix.POLLIN}, {Fd: int32(w.stop), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		if w.hear() {
			w.signal()
		}
	}
}

// hear takes the events that are there, and says whether a commit that they tell of has changed something. A commit's
// last event is about the generation.
func (w *Watch) hear() (some bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.sock.receive(false, func(m message) error {
		if _, ok := newGeneration(m); ok {
			some = w.heard.commit(process(m)) || some
		} else {
			w.heard.event(m, w.table)
		}
		return nil
	})
	if err != nil { // events were lost
		w.heard.everything()
		return true
	}
	return some
}

func (w *Watch) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
