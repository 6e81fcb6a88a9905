// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// Kernel is the nftables of one network namespace. Its methods may be called from
// any thread. All writing goes over one socket, which is open as long as the Kernel and so keeps its port.
type Kernel struct {
	mu sync.Mutex // guards what follows: one request at a time
	conn
}

// conn is a Kernel's connection to nf_tables, and what it knows by it. It is for one goroutine at a time.
type conn struct {
	sock  *nfnetlink.Socket
	limit int // bytes that a batch may have
	batch wire.Batch
	busy  time.Duration
	// ours is how many commits are ours.
	ours uint32
	// seen is how many commits of others a reading saw, counted from an unknown number.
	seen uint32
	// eventSock gets events while tables are read.
	eventSock *nfnetlink.Socket
	// watch is to leave its group while much is written; nil: nobody watches.
	watch *Watch
}

// Open opens the nftables of the calling thread's network namespace.
func Open() (*Kernel, error) {
	k := &Kernel{}
	var err error
	if k.sock, err = nfnetlink.Open(nfnetlink.Options{ReceiveBuffer: receiveBuffer}); err != nil {
		return nil, err
	}
	if k.limit, err = k.sock.SendRoom(maxBatch); err == nil {
		k.eventSock, err = nfnetlink.Open(nfnetlink.Options{ReceiveBuffer: receiveBuffer})
	}
	if err != nil {
		_ = k.Close()
		return nil, err
	}
	return k, nil
}

// Busy returns how long the kernel has worked on this Kernel's transactions so far: the
// system calls alone, without what it takes to encode them.
func (k *Kernel) Busy() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.busy
}

// Close closes the sockets. What the kernel holds stays.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, s := range []*nfnetlink.Socket{k.sock, k.eventSock} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// Remove deletes the tables of a name in both families, and says how many there were. It deletes none if another process
// owns one: the error is a *HeldError then.
func (k *Kernel) Remove(table string) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, f := range rules.Families {
		if held := k.heldBy(rules.Object{Family: f, Table: table}); held != nil {
			return 0, held
		}
	}
	for _, f := range rules.Families {
		if err := k.removeTable(f, table); err == nil {
			n++
		} else if !errors.Is(err, unix.ENOENT) {
			return n, fmt.Errorf("delete table %s %s: %w", f, table, err)
		}
	}
	return n, nil
}

func (k *conn) removeTable(f rules.Family, table string) error {
	k.batch.Begin(table)
	k.batch.DeleteTable(f)
	return k.commit(&k.batch)
}
