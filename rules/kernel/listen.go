// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// nftablesGroup is NFNLGRP_NFTABLES.
const nftablesGroup = 7

// listenTime bounds how long it is waited for the events of a commit that is seen.
const listenTime = 2 * time.Second

// listener hears what others change while tables are read. The generation tells of changes anywhere in the
// namespace; only events tell whose tables they were in.
type listener struct {
	sock    *socket
	table   string
	gen     uint32 // of the last commit all of whose events were heard
	changed bool   // something in the table, or events were lost
}

// listen begins to listen. k.mu is held.
func (k *Kernel) listen(table string) (*listener, error) {
	l := &listener{sock: k.ears, table: table}
	err := l.sock.join()
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("listen for changes: %w: %s", err, needCapability)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for changes: %w", err)
	}
	return l, nil
}

// close ends the listening and forgets what was not heard yet.
func (l *listener) close() {
	l.sock.leave()
	l.sock.drain()
	l.sock.buf = nil // it is not needed for a long time
}

// hear takes the events that are there.
func (l *listener) hear() {
	for {
		more, err := l.sock.receive(false, func(m message) error {
			if gen, ok := newGeneration(m); ok {
				l.gen = gen
			} else if concerns(m, l.table) {
				l.changed = true
			}
			return nil
		})
		if err != nil { // some events were lost
			l.changed = true
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) || !more && err == nil {
			return
		}
	}
}

// heard says whether the table was changed, up to a generation: the event about that is a commit's last.
func (l *listener) heard(gen uint32) bool {
	deadline := time.Now().Add(listenTime)
	for l.hear(); !l.changed && int32(l.gen-gen) < 0; l.hear() {
		left := time.Until(deadline)
		if left <= 0 {
			return true
		}
		fds := []unix.PollFd{{Fd: int32(l.sock.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return true
		}
	}
	return l.changed
}

// newGeneration returns the generation that an event is about, if it is about one.
func newGeneration(m message) (gen uint32, ok bool) {
	if m.typ != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN || len(m.data) < 4 {
		return 0, false
	}
	eachAttr(m.data[4:], func(typ uint16, v []byte) {
		if typ == unix.NFTA_GEN_ID {
			gen, ok = be32(v), true
		}
	})
	return gen, ok
}

// concerns says whether an event is about the tables of a name. The first attribute
// of all objects of nf_tables is their table's name.
func concerns(m message, table string) bool {
	if m.typ>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.data) < 4 {
		return false
	}
	if typ := m.typ & 0xff; typ == unix.NFT_MSG_NEWGEN {
		return false
	}
	found := false
	eachAttr(m.data[4:], func(typ uint16, v []byte) {
		found = found || typ == unix.NFTA_TABLE_NAME && text(v) == table
	})
	return found
}

// join subscribes to nftables' events.
func (s *socket) join() error {
	return unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, nftablesGroup)
}

// leave ends that; it cannot fail for a socket that joined.
func (s *socket) leave() {
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP, nftablesGroup)
}

// ignore lets a filter in the kernel drop the events of a socket by the port in the
// header, before they are queued.
func (s *socket) ignore(port uint32) error {
	port = binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port)) // as BPF loads it
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: port, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	return unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}
