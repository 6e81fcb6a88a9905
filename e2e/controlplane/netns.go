// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace to work in.
type namespace struct {
	fd int // owned; -1 is the process's own namespace
}

// openNamespace takes a copy of fd, so that the caller may close it. An fd of
// 0 or less is the process's own namespace.
func openNamespace(fd int) (namespace, error) {
	if fd <= 0 {
		return namespace{fd: -1}, nil
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return namespace{}, fmt.Errorf("duplicate network namespace descriptor %d: %w", fd, err)
	}
	return namespace{fd: own}, nil
}

func (n namespace) foreign() bool { return n.fd >= 0 }

func (n namespace) close() error {
	if !n.foreign() {
		return nil
	}
	return unix.Close(n.fd)
}

// enter runs fn with the calling thread, which must be locked, inside the
// namespace. If the thread could not be brought back, restored is false and
// the thread must not be unlocked.
func (n namespace) enter(fn func() error) (restored bool, err error) {
	if !n.foreign() {
		return true, fn()
	}
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, fmt.Errorf("open the thread's network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter network namespace (it needs CAP_SYS_ADMIN): %w", err)
	}
	err = fn()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return false, errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	return true, err
}

// do runs fn on a thread inside the namespace and waits for it. A thread that
// cannot come back ends with its goroutine.
func (n namespace) do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		restored, err := n.enter(fn)
		if restored {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// dial connects to an address literal from inside the namespace. (For a host
// name the resolver would open sockets on other threads.)
func (n namespace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// freePort finds a TCP port on which nobody listens at the address.
func (n namespace) freePort(address netip.Addr) (uint16, error) {
	var port uint16
	err := n.do(func() error {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
		if err != nil {
			return err
		}
		port = listener.Addr().(*net.TCPAddr).AddrPort().Port()
		return listener.Close()
	})
	return port, err
}
