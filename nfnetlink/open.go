// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// answerTimeout ends the wait for an answer that was lost: any wait at all is unusual.
const answerTimeout = 10 * time.Second

// sendRoom is what the kernel wants for itself in a send buffer (32 bytes), and some.
const sendRoom = 64

// Options say how a socket is opened. The zero value is good for requests that are answered at once.
type Options struct {
	// SendBuffer is how large a datagram should be possible, in bytes; 0: the system's default. See SendRoom.
	SendBuffer int
	// ReceiveBuffer is how many bytes may wait to be received; 0: the system's default.
	ReceiveBuffer int
	// Ignore is the port of a socket whose events are dropped in the kernel, before they are queued; 0: none.
	Ignore uint32
}

// Open opens a socket in the calling thread's network namespace, where it stays.
func Open(o Options) (*Socket, error) {
	n, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	f := fd{socket: n}
	if f.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE); err != nil {
		_ = unix.Close(n)
		return nil, fmt.Errorf("open netlink socket: make eventfd: %w", err)
	}
	s := NewSocket(f)
	s.timeout = answerTimeout
	if s.port, err = f.setup(o); err != nil {
		_ = f.Close()
		return nil, err
	}
	return s, nil
}

// fd is the file descriptors of a netlink socket.
type fd struct {
	socket int
	// wake is an eventfd whose number is how many waits have to end, for their contexts are done. It is made with the
	// socket, for later there may be too many files.
	wake int
}

func (f fd) setup(o Options) (port uint32, err error) {
	if err = unix.Bind(f.socket, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("bind netlink socket: %w", err)
	}
	name, err := unix.Getsockname(f.socket)
	if err != nil {
		return 0, fmt.Errorf("get netlink port: %w", err)
	}
	if sa, ok := name.(*unix.SockaddrNetlink); ok {
		port = sa.Pid
	}
	timeout := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(f.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, fmt.Errorf("set netlink receive timeout: %w", err)
	}
	// Error messages need not repeat the request, and may say in words what is wrong.
	_ = unix.SetsockoptInt(f.socket, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(f.socket, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	if o.SendBuffer > 0 {
		if _, err := f.SendRoom(o.SendBuffer); err != nil {
			return 0, err
		}
	}
	if o.ReceiveBuffer > 0 {
		if _, err := f.grow(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, o.ReceiveBuffer); err != nil {
			return 0, fmt.Errorf("set netlink receive buffer: %w", err)
		}
	}
	if o.Ignore != 0 {
		if err := f.ignore(o.Ignore); err != nil {
			return 0, fmt.Errorf("attach filter to netlink socket: %w", err)
		}
	}
	return port, nil
}

// grow sets a buffer's size, past the system's limit if the process may, and returns the size that it got.
func (f fd) grow(force, plain, size int) (int, error) {
	if err := unix.SetsockoptInt(f.socket, unix.SOL_SOCKET, force, size); err != nil {
		if err := unix.SetsockoptInt(f.socket, unix.SOL_SOCKET, plain, size); err != nil {
			return 0, err
		}
	}
	return unix.GetsockoptInt(f.socket, unix.SOL_SOCKET, plain)
}

// ignore lets a filter in the kernel drop events by the port in their header.
func (f fd) ignore(port uint32) error {
	port = binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port)) // as BPF loads it
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: port, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	return unix.SetsockoptSockFprog(f.socket, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}) //nolint:gosec // the filter above has 4
}

// Send is Transport's.
func (f fd) Send(datagram []byte) error {
	for {
		err := unix.Sendto(f.socket, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Receive is Transport's.
func (f fd) Receive(buf []byte, wait bool) (int, error) {
	flags := unix.MSG_TRUNC
	if !wait {
		flags |= unix.MSG_DONTWAIT
	}
	for {
		n, _, err := unix.Recvfrom(f.socket, buf, flags)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Wait is Transport's.
func (f fd) Wait(ctx context.Context, d time.Duration) (bool, error) {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(f.wake, binary.NativeEndian.AppendUint64(nil, 1))
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken
			_, _ = unix.Read(f.wake, make([]byte, 8)) // takes 1 away
		}
	}()
	fds := []unix.PollFd{{Fd: int32(f.socket), Events: unix.POLLIN}, {Fd: int32(f.wake), Events: unix.POLLIN}} //nolint:gosec // file descriptors
	for deadline := time.Now().Add(d); ; {
		left := -1
		if d >= 0 {
			left = int(max(0, time.Until(deadline)+time.Millisecond-1).Milliseconds())
		}
		n, err := unix.Poll(fds, left)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, fmt.Errorf("wait for netlink: %w", err)
		case n > 0 && fds[0].Revents == 0 && ctx.Err() == nil:
			runtime.Gosched() // another wait has to end
		default:
			return n > 0 && fds[0].Revents != 0, nil
		}
	}
}

// Join is Transport's.
func (f fd) Join(group int) error {
	if err := unix.SetsockoptInt(f.socket, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
		return fmt.Errorf("join group %d of netlink's events: %w", group, err)
	}
	return nil
}

// Leave is Transport's.
func (f fd) Leave(group int) error {
	if err := unix.SetsockoptInt(f.socket, unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP, group); err != nil {
		return fmt.Errorf("leave group %d of netlink's events: %w", group, err)
	}
	return nil
}

// SendRoom is Transport's.
func (f fd) SendRoom(bytes int) (int, error) {
	size, err := f.grow(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, bytes)
	if err != nil {
		return 0, fmt.Errorf("set netlink send buffer: %w", err)
	}
	return min(size-sendRoom, bytes), nil
}

// Close is Transport's.
func (f fd) Close() error { return errors.Join(unix.Close(f.socket), unix.Close(f.wake)) }
