// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// unreachable is the type of a route that answers so.
const unreachable = unix.RTN_UNREACHABLE

// probePace is the time between two attempts of one who waits.
const probePace = time.Millisecond

// briefly is how long one who waits gives an attempt: rules that are there in part may drop it.
var briefly = unix.Timeval{Usec: 20000}

// shortly is more than any connection takes that does not lose a packet.
var shortly = unix.Timeval{Usec: 200000}

// connect makes a TCP connection from the calling thread's namespace, which close
// ends by a reset, so that no port stays in use, and returns how long the handshake took.
func connect(to netip.AddrPort, timeout unix.Timeval) (fd int, took time.Duration, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	err = errors.Join(
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout), // of connect
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
	)
	address := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	start := time.Now()
	if err == nil {
		err = unix.Connect(fd, address)
	}
	took = time.Since(start)
	if err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EINTR) { // a signal of the Go runtime; connect cannot be taken up again
			return connect(to, timeout)
		}
		if errors.Is(err, unix.EINPROGRESS) { // SO_SNDTIMEO is over
			err = unix.ETIMEDOUT
		}
		return -1, 0, fmt.Errorf("connect to %s: %w", to, err)
	}
	return fd, took, nil
}

// handshake connects and closes. A packet that is lost shows as a second, or three.
func handshake(to netip.AddrPort) (time.Duration, error) {
	fd, took, err := connect(to, lossPatience)
	if err == nil {
		err = unix.Close(fd)
	}
	return took, err
}

// ask makes a connection and returns which backend answers.
func ask(to netip.AddrPort, timeout unix.Timeval) (netip.Addr, error) {
	fd, _, err := connect(to, timeout)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	var answer [4]byte
	n, err := unix.Read(fd, answer[:])
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(fd, answer[:])
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read from %s: %w", to, err)
	}
	if n != len(answer) {
		return netip.Addr{}, fmt.Errorf("read from %s: %d bytes came, want %d", to, n, len(answer))
	}
	return netip.AddrFrom4(answer), nil
}

// waitFor asks until the answer is one that is wanted, at most for so long. It runs in
// the namespace of the calling thread.
func waitFor(ctx context.Context, to netip.AddrPort, most time.Duration, wanted func(netip.Addr) bool) error {
	pace := time.NewTicker(probePace)
	defer pace.Stop()
	for start := time.Now(); ; <-pace.C {
		backend, err := ask(to, briefly)
		if err == nil && wanted(backend) {
			return nil
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Since(start) < most:
		case err != nil:
			return fmt.Errorf("no answer in %s: %w", most, err)
		default:
			return fmt.Errorf("connections to %s still went to %s after %s", to, backend, most)
		}
	}
}

func anyone(netip.Addr) bool { return true }

func only(want netip.Addr) func(netip.Addr) bool {
	return func(got netip.Addr) bool { return got == want }
}
