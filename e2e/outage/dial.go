// SPDX-License-Identifier: Apache-2.0

//go:build linux

package outage

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Scene says how connections are made. Something fails at time 0.
type Scene struct {
	Rate          int           // connections a second
	Before, After time.Duration // connections begin from Before ahead of time 0 until After
	Timeout       time.Duration // a connection without an answer for so long has failed
}

// Connection is how a connection went.
type Connection struct {
	Began, Took time.Duration // Began is from time 0 on
	Failed      bool
}

// dialing is a connection that has no answer yet.
type dialing struct {
	at    int // in the list
	began time.Time
}

// dialer makes connections in one thread, as there may be thousands at a time.
type dialer struct {
	Scene
	to   unix.Sockaddr
	kind int // of sockets
	zero time.Time
	poll int
	open map[int]dialing
	list []Connection
}

// Dial makes connections from the network namespace of the calling thread, closes each when it stands, and returns how they
// went, in the order of their begins, when all have ended. Time 0 is zero.
func (s Scene) Dial(to netip.AddrPort, zero time.Time) (list []Connection, err error) {
	d := &dialer{Scene: s, kind: unix.AF_INET, zero: zero, open: map[int]dialing{}, to: &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}}
	if to.Addr().Is6() {
		d.kind, d.to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	if d.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	defer unix.Close(d.poll)
	if err := d.run(); err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	return d.list, nil
}

func (d *dialer) run() error {
	next, end := d.zero.Add(-d.Before), d.zero.Add(d.After)
	events := make([]unix.EpollEvent, 256)
	defer func() {
		for fd := range d.open {
			d.end(fd)
		}
	}()
	for next.Before(end) || len(d.open) > 0 {
		for ; time.Now().After(next) && next.Before(end); next = next.Add(time.Second / time.Duration(d.Rate)) {
			if err := d.begin(); err != nil {
				return err
			}
		}
		n, err := unix.EpollWait(d.poll, events, 2)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		d.look(events[:max(n, 0)])
	}
	return nil
}

// begin begins a connection.
func (d *dialer) begin() error {
	fd, err := unix.Socket(d.kind, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// A reset at its end leaves its port free for another one.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	began := time.Now()
	if err := unix.Connect(fd, d.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return err
	}
	d.open[fd] = dialing{len(d.list), began}
	d.list = append(d.list, Connection{Began: began.Sub(d.zero), Failed: true})
	return unix.EpollCtl(d.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)})
}

// look ends the connections of which something was heard, and those that have waited long enough.
func (d *dialer) look(events []unix.EpollEvent) {
	now := time.Now()
	for _, e := range events {
		fd := int(e.Fd)
		c, ok := d.open[fd]
		if !ok {
			continue
		}
		failed, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		d.list[c.at].Took, d.list[c.at].Failed = now.Sub(c.began), failed != 0
		d.end(fd)
	}
	for fd, c := range d.open {
		if took := now.Sub(c.began); took > d.Timeout {
			d.list[c.at].Took = took
			d.end(fd)
		}
	}
}

func (d *dialer) end(fd int) {
	_ = unix.EpollCtl(d.poll, unix.EPOLL_CTL_DEL, fd, nil) // a process that is just starting may have it, too
	_ = unix.Close(fd)
	delete(d.open, fd)
}
