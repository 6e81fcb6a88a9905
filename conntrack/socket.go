// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The kernel fills at most 32 KiB of a dump into one datagram.
const recvBuffer = 64 << 10

// answerTimeout ends the wait for an answer that was lost. The kernel answers
// before a send returns, so any wait at all is unusual.
const answerTimeoutSeconds = 10

// errInterrupted says that a dump may lack entries, because the table changed its shape meanwhile.
var errInterrupted = errors.New("interrupted by changes of the table")

// socket is a NETLINK_NETFILTER socket. It is for one caller at a time.
type socket struct {
	fd  int
	seq uint32
	buf []byte
	// unread says that answers to an earlier request may be there.
	unread bool
}

func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTimeoutSeconds}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set netlink receive timeout: %w", err)
	}
	// Error messages need not repeat the request. Without it they only take more room.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &socket{fd: fd, buf: make([]byte, recvBuffer)}, nil
}

func (s *socket) close() error { return unix.Close(s.fd) }

// exchange sends requests and reads until each was answered by an acknowledgement,
// an error or the end of a dump; done, if not nil, learns which. entry gets the
// other messages' attributes, valid during the call only. It returns when ctx is
// done, after the read that is going on, and with errInterrupted, at its end, if a dump has to
// be made anew.
func (s *socket) exchange(ctx context.Context, requests []message, entry func([]byte), done func(i int, err error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.unread {
		s.drain()
	}
	first, err := s.send(requests)
	if err != nil {
		return err
	}
	s.unread = true
	interrupted := false
	for open := len(requests); open > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := s.receive(0)
		if err != nil {
			return err
		}
		err = eachMessage(s.buf[:n], func(m answer) {
			i := int(m.seq - first)
			if i < 0 || i >= len(requests) {
				return // to an earlier request
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				open--
				done(i, errorOf(m.data))
			default:
				if len(m.data) > 4 {
					entry(m.data[4:])
				}
			}
		})
		if err != nil {
			return err
		}
	}
	s.unread = false
	if interrupted {
		return errInterrupted
	}
	return nil
}

// send sends requests in one datagram and returns the first one's sequence number.
func (s *socket) send(requests []message) (uint32, error) {
	first := s.seq + 1
	var b []byte
	for _, m := range requests {
		s.seq++
		m.setSeq(s.seq)
		b = append(b, m...)
	}
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				err = fmt.Errorf("send to netlink: %w", err)
			}
			return first, err
		}
	}
}

func (s *socket) receive(flags int) (int, error) {
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf, flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN) && flags&unix.MSG_DONTWAIT == 0:
			return 0, fmt.Errorf("receive from netlink: no answer in %d s: %w", answerTimeoutSeconds, err)
		case err != nil:
			return 0, fmt.Errorf("receive from netlink: %w", err)
		}
		return n, nil
	}
}

// drain throws away what an unfinished exchange left. The kernel starts no dump on
// a socket before the one that is going on was read to its end.
func (s *socket) drain() {
	for {
		if _, err := s.receive(unix.MSG_DONTWAIT); errors.Is(err, unix.EAGAIN) {
			s.unread = false
			return
		} else if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ENOMEM) {
			return
		}
	}
}

// answer is a message from the kernel: what matters of its nlmsghdr, and what follows.
type answer struct {
	typ, flags uint16
	seq        uint32
	data       []byte
}

func eachMessage(b []byte, fn func(answer)) error {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return fmt.Errorf("read netlink message of %d bytes in %d: truncated", n, len(b))
		}
		fn(answer{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:n]})
		b = b[min(align(n), len(b)):]
	}
	return nil
}

// errorOf reads the error of an NLMSG_ERROR or NLMSG_DONE; 0 is success.
func errorOf(data []byte) error {
	if len(data) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(data)); code < 0 {
		return unix.Errno(-code)
	}
	return nil
}
