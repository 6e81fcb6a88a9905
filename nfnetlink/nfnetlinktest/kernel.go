// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlinktest

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
)

// Answer is what the kernel answers to a request.
type Answer struct {
	// Entries are messages as a builder writes them. The double numbers them.
	Entries [][]byte
	// Err is an errno or a *nfnetlink.Error: why a request was refused, or a dump ended early.
	Err error
	// Interrupted says at a dump's end that it was.
	Interrupted bool
}

// Kernel is the double of the kernel's end of a socket.
type Kernel struct {
	answer func(request nfnetlink.Message) Answer

	mu      sync.Mutex // guards what follows
	queue   [][]byte
	room    int // most datagrams in queue
	lost    bool
	dumping int // datagrams in the queue up to the end of a dump
	groups  map[int]bool
	closed  bool
	arrived chan struct{} // gets a value when the queue is not empty any more
}

var _ nfnetlink.Transport = (*Kernel)(nil)

// New returns a double that answers each message of what is sent with what a function returns, and a socket whose other end
// it is. The function must not use the socket.
func New(answer func(request nfnetlink.Message) Answer) (*Kernel, *nfnetlink.Socket) {
	k := &Kernel{answer: answer, room: math.MaxInt, groups: map[int]bool{}, arrived: make(chan struct{}, 1)}
	return k, nfnetlink.NewSocket(k)
}

// Room says how many datagrams the receive buffer holds from now on.
func (k *Kernel) Room(datagrams int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.room = datagrams
}

// Event sends a message, as a builder writes it, to a group.
func (k *Kernel) Event(group int, message []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.groups[group] {
		k.put(message)
	}
}

// put adds a datagram to the queue. k.mu is locked.
func (k *Kernel) put(datagram []byte) {
	if len(k.queue) >= k.room {
		k.lost = true
	} else {
		k.queue = append(k.queue, datagram)
	}
	select {
	case k.arrived <- struct{}{}:
	default:
	}
}

// Send is Transport's.
func (k *Kernel) Send(datagram []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return unix.EBADF
	}
	return nfnetlink.EachMessage(datagram, k.request)
}

func (k *Kernel) request(m nfnetlink.Message) {
	dump := m.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	if dump && k.dumping > 0 {
		k.put(end(m, unix.NLMSG_ERROR, 0, unix.EBUSY))
		return
	}
	a := k.answer(m)
	multi := uint16(0)
	if dump {
		multi = unix.NLM_F_MULTI
	}
	for _, e := range a.Entries {
		e = append([]byte(nil), e...)
		binary.NativeEndian.PutUint16(e[6:], binary.NativeEndian.Uint16(e[6:])&^unix.NLM_F_REQUEST|multi)
		binary.NativeEndian.PutUint32(e[8:], m.Seq)
		k.put(e)
	}
	switch {
	case dump && (a.Err == nil || len(a.Entries) > 0):
		if a.Interrupted {
			multi |= unix.NLM_F_DUMP_INTR
		}
		k.put(end(m, unix.NLMSG_DONE, multi, a.Err))
		k.dumping = len(k.queue)
	case a.Err != nil || m.Flags&unix.NLM_F_ACK != 0:
		k.put(end(m, unix.NLMSG_ERROR, 0, a.Err))
	}
}

// end is the message that ends the answer to a request.
func end(request nfnetlink.Message, typ, flags uint16, err error) []byte {
	refused := &nfnetlink.Error{}
	if !errors.As(err, &refused) {
		_ = errors.As(err, &refused.Errno)
	}
	length := unix.NLMSG_HDRLEN + 4
	if typ == unix.NLMSG_ERROR {
		length += unix.NLMSG_HDRLEN // of the request
	}
	b := make([]byte, length)
	binary.NativeEndian.PutUint32(b[unix.NLMSG_HDRLEN:], uint32(-int32(refused.Errno)))
	attributes := nfnetlink.Builder{Buf: b}
	if refused.Message != "" {
		attributes.Str(unix.NLMSGERR_ATTR_MSG, refused.Message)
	}
	if refused.Offset != 0 {
		attributes.Bytes(unix.NLMSGERR_ATTR_OFFS, binary.NativeEndian.AppendUint32(nil, uint32(refused.Offset))...)
	}
	if len(attributes.Buf) > length {
		flags |= unix.NLM_F_ACK_TLVS
	}
	b = attributes.Buf
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], typ)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], request.Seq)
	return b
}

// Receive is Transport's. It does not wait, as the kernel would not.
func (k *Kernel) Receive(buf []byte, _ bool) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed:
		return 0, unix.EBADF
	case k.lost:
		k.lost = false
		return 0, unix.ENOBUFS
	case len(k.queue) == 0:
		return 0, unix.EAGAIN
	}
	d := k.queue[0]
	k.queue = k.queue[1:]
	k.dumping = max(0, k.dumping-1)
	copy(buf, d)
	return len(d), nil
}

// Wait is Transport's.
func (k *Kernel) Wait(ctx context.Context, d time.Duration) (bool, error) {
	var after <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		after = timer.C
	}
	for {
		k.mu.Lock()
		ready := len(k.queue) > 0 || k.lost
		k.mu.Unlock()
		if ready {
			return true, nil
		}
		select {
		case <-k.arrived:
		case <-after:
			return false, nil
		case <-ctx.Done():
			return false, nil
		}
	}
}

// Join is Transport's.
func (k *Kernel) Join(group int) error { return k.member(group, true) }

// Leave is Transport's.
func (k *Kernel) Leave(group int) error { return k.member(group, false) }

func (k *Kernel) member(group int, on bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return unix.EBADF
	}
	k.groups[group] = on
	return nil
}

// SendRoom is Transport's. There is room for anything.
func (k *Kernel) SendRoom(bytes int) (int, error) { return bytes, nil }

// Close is Transport's.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return unix.EBADF
	}
	k.closed = true
	return nil
}
