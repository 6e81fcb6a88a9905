// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Watch tells when somebody else changes the tables.
type Watch struct {
	kernel  *Kernel
	sock    *socket
	stop    int // eventfd that ends the wait
	table   string
	changed chan struct{}
	done    sync.WaitGroup
}

// nftablesGroup is NFNLGRP_NFTABLES.
const nftablesGroup = 7

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
	if err := w.join(w.kernel.sock.port); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	w.done.Go(w.run)
	foreign, err := w.kernel.changedByOthers()
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	if foreign {
		w.signal()
	}
	return nil
}

// changedByOthers says whether others have changed the ruleset, whatever part of it,
// since k read it.
func (k *Kernel) changedByOthers() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := k.generation()
	return now != k.gen, err
}

// join subscribes to nftables' events, less those of our own socket: a filter in
// the kernel drops them by the port in the header, before they are queued.
func (w *Watch) join(own uint32) error {
	port := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, own)) // as BPF loads it
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: port, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	err := unix.SetsockoptSockFprog(w.sock.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	if err := unix.SetsockoptInt(w.sock.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, nftablesGroup); err != nil {
		return fmt.Errorf("join event group: %w", err)
	}
	return nil
}

// Changed gets a value when the tables may have been changed by somebody else.
// Several changes may give one value.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Close ends the watch.
func (w *Watch) Close() error {
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
		ours := false
		_, err := w.sock.receive(false, func(m message) error {
			ours = ours || w.concerns(m)
			return nil
		})
		if ours || err != nil { // an error: events were lost
			w.signal()
		}
	}
}

func (w *Watch) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// concerns says whether an event is about the watched tables. The first attribute
// of all objects of nf_tables is their table's name.
func (w *Watch) concerns(m message) bool {
	if m.typ>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.data) < 4 {
		return false
	}
	if typ := m.typ & 0xff; typ == unix.NFT_MSG_NEWGEN {
		return false
	}
	found := false
	eachAttr(m.data[4:], func(typ uint16, v []byte) {
		found = found || typ == unix.NFTA_TABLE_NAME && text(v) == w.table
	})
	return found
}
