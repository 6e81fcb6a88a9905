// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// watchPause is how long a watch pauses after an error of its socket.
const watchPause = time.Second

// mostDatagrams is how many datagrams of events are taken at once.
const mostDatagrams = 64

// Watch tells when somebody else changes the tables.
type Watch struct {
	kernel  *Kernel
	sock    *nfnetlink.Socket
	stop    context.CancelFunc // ends run
	table   string
	changed chan struct{}
	done    sync.WaitGroup

	mu      sync.Mutex // guards changes
	changes changes
}

// Watch prepares to watch the tables of a name for changes that do not come from k.
// It belongs to the calling thread's network namespace, which must be k's.
func (k *Kernel) Watch(table string) (*Watch, error) {
	s, err := nfnetlink.Open(nfnetlink.Options{ReceiveBuffer: receiveBuffer, Ignore: k.sock.Port()})
	if err != nil {
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	return &Watch{kernel: k, sock: s, stop: func() {}, table: table, changed: make(chan struct{}, 1)}, nil
}

// Join begins to watch. It is called once, best when all is loaded: with somebody to
// tell, the kernel takes three times as long for a full load. What was changed since k
// read the tables is noticed, too.
func (w *Watch) Join() error {
	k := w.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := w.rejoin(k.seen); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	k.watch = w
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.done.Go(func() { w.run(ctx) })
	return nil
}

// leave ends the watch for a while, and returns how many commits of others there were before.
// The kernel's mutex is locked, as for rejoin.
func (w *Watch) leave() (others uint32, err error) {
	_, others, err = w.kernel.others()
	if err == nil {
		_ = w.sock.Leave(nftablesGroup) // it cannot fail for a member
	}
	return others, err
}

// rejoin goes on with the watch. It tells of a change if there were more commits of others
// meanwhile, whatever they changed.
func (w *Watch) rejoin(others uint32) error {
	if err := w.sock.Join(nftablesGroup); err != nil {
		return err
	}
	_, now, err := w.kernel.others()
	if err == nil && now != others {
		w.anything()
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
	out := w.changes.touched()
	w.changes = changes{}
	return out
}

// Close ends the watch.
func (w *Watch) Close() error {
	if w.kernel != nil {
		w.kernel.mu.Lock()
		w.kernel.watch = nil
		w.kernel.mu.Unlock()
	}
	w.stop()
	w.done.Wait()
	return w.sock.Close()
}

// run takes events until ctx is done. While it cannot, anything may have been changed.
func (w *Watch) run(ctx context.Context) {
	for ctx.Err() == nil {
		ready, err := w.sock.Wait(ctx, -1)
		if err == nil && ready {
			err = w.take()
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		w.anything()
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

// take takes the events that are there, but not so many that others wait long for w.mu, and signals if a commit that
// they tell of has changed something. A commit's last event is about the generation.
func (w *Watch) take() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	some := false
	defer func() {
		if some {
			w.signal()
		}
	}()
	for range mostDatagrams {
		more, err := w.sock.Receive(false, func(m nfnetlink.Message) {
			if _, ok := newGeneration(m); ok {
				some = w.changes.commit(process(m)) || some
			} else {
				w.changes.event(m, w.table)
			}
		})
		switch {
		case errors.Is(err, unix.ENOBUFS): // events were lost
			w.changes.everything()
			some = true
		case err != nil:
			return err
		case !more:
			return nil
		}
	}
	return nil
}

// anything notes and signals that anything may have been changed.
func (w *Watch) anything() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes.everything()
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
