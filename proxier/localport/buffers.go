// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bounds of what all ports of a Forwarder hold together. An idle connection or flow holds no
// buffer: one is taken when there is something to read.
const (
	maxConnections  = 512  // of TCP, each with two descriptors
	maxFlows        = 1024 // of UDP, each with one
	chunk           = 16 << 10
	datagramsAtOnce = 8
)

// maxDatagram is the largest UDP payload.
const maxDatagram = 65507

// datagramBuffers are what datagrams are read into. One is taken only when there is something to read.
type datagramBuffers chan []byte

func newDatagramBuffers() datagramBuffers {
	b := make(datagramBuffers, datagramsAtOnce)
	for range datagramsAtOnce {
		b <- nil
	}
	return b
}

func (b datagramBuffers) get() []byte {
	if buf := <-b; buf != nil {
		return buf
	}
	return make([]byte, maxDatagram)
}

func (b datagramBuffers) put(buf []byte) { b <- buf }

// receive waits for a datagram and calls f with it and its sender. It waits for a buffer while it holds
// nothing: to close the connection must not wait for those who have the buffers.
func (b datagramBuffers) receive(conn *net.UDPConn, f func(data []byte, from netip.AddrPort)) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var none [0]byte
	if _, _, err = recvfrom(raw, none[:], unix.MSG_PEEK, true); err != nil {
		return err
	}
	buf := b.get()
	defer b.put(buf)
	n, from, err := recvfrom(raw, buf, 0, false)
	if err == unix.EAGAIN { //nolint:errorlint // the system call's own
		return nil // its checksum was wrong
	}
	if err == nil {
		f(buf[:n], addrPortOf(from))
	}
	return err
}

// recvfrom receives a datagram, or waits for one first.
func recvfrom(raw syscall.RawConn, buf []byte, flags int, wait bool) (n int, from unix.Sockaddr, err error) {
	waitErr := raw.Read(func(fd uintptr) bool {
		for {
			n, from, err = unix.Recvfrom(int(fd), buf, flags)
			if err != unix.EINTR { //nolint:errorlint // the system call's own
				return err != unix.EAGAIN || !wait //nolint:errorlint // as above
			}
		}
	})
	if waitErr != nil {
		err = waitErr
	}
	return n, from, err
}

func addrPortOf(s unix.Sockaddr) netip.AddrPort {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port)) //nolint:gosec // ports have 16 bits
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), uint16(s.Port)) //nolint:gosec // ports have 16 bits
	}
	return netip.AddrPort{}
}

// chunks are what TCP's data are copied through.
var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// copyChunk waits for data and passes it on. io.EOF says that there will be no more.
func copyChunk(to io.Writer, from syscall.RawConn) error {
	var buf *[chunk]byte
	var n int
	var err error
	waitErr := from.Read(func(fd uintptr) bool {
		buf = chunks.Get().(*[chunk]byte)
		for {
			n, err = unix.Read(int(fd), buf[:])
			if err != unix.EINTR { //nolint:errorlint // the system call's own
				break
			}
		}
		if err == unix.EAGAIN { //nolint:errorlint // as above
			chunks.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	if buf == nil {
		return waitErr
	}
	defer chunks.Put(buf)
	switch {
	case err != nil:
		return err
	case n == 0:
		return io.EOF
	}
	_, err = to.Write(buf[:n])
	return err
}
