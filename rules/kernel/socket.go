// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Most that is sent at once: some 800 services of 10 endpoints. Small batches load
// faster than large ones (measured with 30,000 services: a fifth), and a long commit
// would hold up its CPU (it has no rescheduling point). Where anybody on the machine
// listens for nftables' events, a commit takes 4 KiB for each element in it, and time.
const maxBatch = 1 << 20

// maxReset is the most that is sent at once where a table is replaced, so that no packet is without: some
// 25,000 services of 10 endpoints.
const maxReset = 32 << 20

// sendRoom is what the kernel wants for itself in a send buffer (32 bytes), and some.
const sendRoom = 64

// recvBuffer fits the kernel's largest dump message and a few errors.
const recvBuffer = 256 << 10

// socket is a NETLINK_NETFILTER socket. Requests are answered in order and
// before send returns, so replies are read without waiting for others.
type socket struct {
	fd   int
	port uint32
	seq  uint32
	buf  []byte // made when it is needed
	// limit is how many bytes one send can carry.
	limit int
}

func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	s := &socket{fd: fd}
	if err := s.setup(); err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

func (s *socket) setup() error {
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("bind netlink socket: %w", err)
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return fmt.Errorf("get netlink port: %w", err)
	}
	if sa, ok := name.(*unix.SockaddrNetlink); ok {
		s.port = sa.Pid
	}
	// Error messages need not repeat the request, and may say in words what is wrong.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	s.limit, err = grow(s.fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, maxBatch)
	if err != nil {
		return fmt.Errorf("set netlink send buffer: %w", err)
	}
	s.limit = min(s.limit-sendRoom, maxBatch)
	if _, err = grow(s.fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, 4<<20); err != nil {
		return fmt.Errorf("set netlink receive buffer: %w", err)
	}
	return nil
}

// grow sets a buffer's size, past the system's limit if the process may, and
// returns the size that it got.
func grow(fd, force, plain, size int) (int, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size); err != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size); err != nil {
			return 0, err
		}
	}
	return unix.GetsockoptInt(fd, unix.SOL_SOCKET, plain)
}

// widen makes room for a larger batch, and returns how much the socket can send now.
func (s *socket) widen() int {
	size, err := grow(s.fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, maxReset)
	if err != nil {
		return s.limit
	}
	return max(s.limit, min(size-sendRoom, maxReset))
}

// narrow ends that.
func (s *socket) narrow() {
	_, _ = grow(s.fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, maxBatch)
}

func (s *socket) close() error { return unix.Close(s.fd) }

func (s *socket) nextSeq() uint32 {
	if s.seq++; s.seq == 0 {
		s.seq = 1
	}
	return s.seq
}

func (s *socket) send(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// message is a netlink message that was received. Its data is valid until the
// next receive.
type message struct {
	typ   uint16
	flags uint16
	seq   uint32
	data  []byte
}

// receive reads what is there and calls fn for each message; wait says whether to
// wait for the first. It returns false when nothing was there.
func (s *socket) receive(wait bool, fn func(message) error) (bool, error) {
	if s.buf == nil {
		s.buf = make([]byte, recvBuffer)
	}
	flags := 0
	if !wait {
		flags = unix.MSG_DONTWAIT
	}
	var n int
	for {
		var err error
		n, _, err = unix.Recvfrom(s.fd, s.buf, flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("receive from netlink: %w", err)
		}
		break
	}
	return true, eachMessage(s.buf[:n], fn)
}

func eachMessage(b []byte, fn func(message) error) error {
	for len(b) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return fmt.Errorf("netlink message of %d bytes in %d: truncated", length, len(b))
		}
		m := message{
			typ:   binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			data:  b[unix.NLMSG_HDRLEN:length],
		}
		if err := fn(m); err != nil {
			return err
		}
		b = b[min(align(length), len(b)):]
	}
	return nil
}

// drain throws away what is left in the receive buffer.
func (s *socket) drain() {
	for {
		if ok, err := s.receive(false, func(message) error { return nil }); !ok && err == nil {
			return
		}
	}
}

func align(n int) int { return (n + 3) &^ 3 }
