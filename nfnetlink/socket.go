// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel fills at most 32 KiB of a dump into one datagram.
const firstBuffer = 64 << 10

// Transport carries a Socket's datagrams: the kernel's socket, or the double in nfnetlinktest. Join, Leave and Wait may be
// called while others are going on.
type Transport interface {
	// Send sends a datagram. The answers are there when it returns.
	Send(datagram []byte) error
	// Receive puts a datagram into buf, and returns how long it was; what does not fit is lost. With wait it waits for
	// one, as long as the socket's timeout. EAGAIN says that there is none, ENOBUFS that messages were lost before.
	Receive(buf []byte, wait bool) (int, error)
	// Wait waits until there is something to receive, for d at most if that is not negative, and until ctx is done.
	Wait(ctx context.Context, d time.Duration) (ready bool, err error)
	// Join and Leave begin and end a membership in a group of events.
	Join(group int) error
	Leave(group int) error
	// SendRoom makes room for a datagram of so many bytes, and returns how many fit.
	SendRoom(bytes int) (int, error)
	Close() error
}

// Socket is a socket of NETLINK_NETFILTER. It is for one caller at a time, but for Join, Leave and Wait.
type Socket struct {
	Transport
	port    uint32
	timeout time.Duration
	seq     uint32
	buf     []byte // made when it is needed
	size    int    // of buf
	// unread says that answers to an earlier request may be there.
	unread bool
}

// NewSocket returns a socket over a transport.
func NewSocket(t Transport) *Socket { return &Socket{Transport: t, size: firstBuffer} }

// Port returns by which number the kernel knows the socket, for as long as it is open.
func (s *Socket) Port() uint32 { return s.port }

// Receive reads a datagram and calls fn for each message in it; wait says whether to wait for one. It returns false
// when none was there. ENOBUFS says that messages were lost, before or at the end of what fn got.
func (s *Socket) Receive(wait bool, fn func(Message)) (bool, error) {
	if s.buf == nil {
		s.buf = make([]byte, s.size)
	}
	n, err := s.Transport.Receive(s.buf, wait)
	switch {
	case errors.Is(err, unix.EAGAIN) && !wait:
		return false, nil
	case errors.Is(err, unix.EAGAIN):
		return false, fmt.Errorf("receive from netlink: no answer in %s: %w", s.timeout, err)
	case err != nil:
		return false, fmt.Errorf("receive from netlink: %w", err)
	}
	had := len(s.buf)
	if n <= had {
		return true, EachMessage(s.buf[:n], fn)
	}
	_ = EachMessage(s.buf, fn)
	s.buf, s.size = nil, n+had // for the next
	return true, fmt.Errorf("receive %d bytes from netlink: only %d fitted: %w", n, had, unix.ENOBUFS)
}

// Drain throws away what is there: answers that nobody has read, or events. It gives up the memory for them.
func (s *Socket) Drain() {
	for {
		more, err := s.Receive(false, func(Message) {})
		if err == nil && !more {
			s.unread, s.buf = false, nil
			return
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ENOMEM) {
			return
		}
	}
}

// send numbers messages and sends them in one datagram. It returns the first one's number, and how many there are.
func (s *Socket) send(messages []byte) (first, n uint32, err error) {
	first = s.seq + 1
	n = number(messages, first)
	s.seq += n
	if err := s.Send(messages); err != nil {
		return 0, 0, fmt.Errorf("send %d bytes to netlink: %w", len(messages), err)
	}
	return first, n, nil
}

// Ask completes a request and exchanges it. A refusal is a *Error.
func (s *Socket) Ask(ctx context.Context, request *Builder, entry func(Message)) error {
	request.End()
	var refused error
	err := s.Exchange(ctx, request.Buf, entry, func(_ int, err error) { refused = err })
	if refused != nil {
		return refused
	}
	return err
}

// Exchange sends requests in one datagram and reads until each was answered by an acknowledgement, an error or the end
// of a dump. So each must ask for an acknowledgement (NLM_F_ACK) or a dump (NLM_F_DUMP). entry gets the other messages;
// done learns how the i-th request ended: nil, or a *Error. Exchange returns when ctx is done, after the read that is
// going on, and ErrInterrupted or ErrCutShort, at its end, if a dump has to be made again.
func (s *Socket) Exchange(ctx context.Context, requests []byte, entry func(Message), done func(i int, err error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.unread {
		s.Drain()
	}
	first, n, err := s.send(requests)
	if err != nil {
		return err
	}
	s.unread = true
	a := answers{requests: requests, first: first, n: n, open: int(n), entry: entry, done: done}
	for a.open > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := s.Receive(true, a.message); err != nil {
			return err
		}
	}
	s.unread = false
	return a.repeat
}

// answers are those to the requests of an exchange.
type answers struct {
	requests []byte
	first, n uint32
	open     int   // requests without an answer
	repeat   error // why a dump has to be made again
	entry    func(Message)
	done     func(i int, err error)
}

func (a *answers) message(m Message) {
	i := m.Seq - a.first
	if i >= a.n {
		return // to an earlier request
	}
	if a.repeat == nil && m.Flags&unix.NLM_F_DUMP_INTR != 0 {
		a.repeat = ErrInterrupted
	}
	if m.Type != unix.NLMSG_ERROR && m.Type != unix.NLMSG_DONE {
		a.entry(m)
		return
	}
	a.open--
	refused := m.Err()
	switch {
	case refused == nil:
		a.done(int(i), nil)
	case refused.Errno == unix.EINTR && a.dump(m.Seq):
		a.repeat = ErrCutShort
		a.done(int(i), nil)
	default:
		a.done(int(i), refused)
	}
}

// dump says whether the request of a number asks for a dump.
func (a *answers) dump(seq uint32) (dump bool) {
	_ = EachMessage(a.requests, func(m Message) {
		dump = dump || m.Seq == seq && m.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	})
	return dump
}

// Transact sends a batch of nf_tables, which the kernel carries out as a whole or not at all, and reads what it answers:
// refused gets each error, and the number of the message in the batch that it is about. acked says whether a message that
// asks for an acknowledgement got one, lost that answers did not fit the receive buffer. Answers to earlier requests do
// not count.
func (s *Socket) Transact(batch []byte, refused func(i int, e *Error)) (acked, lost bool, err error) {
	if s.unread {
		s.Drain()
	}
	first, n, err := s.send(batch)
	if err != nil {
		return false, false, err
	}
	for {
		more, err := s.Receive(false, func(m Message) {
			i := m.Seq - first
			if m.Type != unix.NLMSG_ERROR || i >= n || len(m.Data) < 4 {
				return
			}
			if e := m.Err(); e != nil {
				refused(int(i), e)
			} else {
				acked = true
			}
		})
		switch {
		case errors.Is(err, unix.ENOBUFS):
			lost = true
		case err != nil:
			return false, lost, err
		case !more:
			return acked, lost, nil
		}
	}
}
