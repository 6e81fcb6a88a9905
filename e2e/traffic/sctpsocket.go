// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// KernelSCTP says whether the kernel speaks SCTP: then it answers INIT chunks to
// addresses of this machine itself, and only its own sockets will do. Asking
// loads its module, if there is one.
func KernelSCTP() bool {
	fd, err := sctpSocket(netip.IPv4Unspecified())
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}

// Refusal returns what becomes of a connection that is refused by ICMP, or for TCP
// by a reset. The kernel's SCTP takes no ICMPv6 message for a refusal.
func Refusal(p Protocol, to netip.Addr) Outcome {
	if p == SCTP && to.Is6() && KernelSCTP() {
		return TimedOut
	}
	return Refused
}

// sctpSocket returns a non-blocking one-to-one SCTP socket (RFC 6458, section 4).
func sctpSocket(a netip.Addr) (int, error) {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP)
}

func socketAddress(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// listenSCTP returns a listener. Package net takes one-to-one sockets for TCP's,
// and they do behave so. It is called in the namespace.
func listenSCTP(at netip.AddrPort, homes ...netip.Addr) (*net.TCPListener, error) {
	fd, err := sctpSocket(at.Addr())
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), at.String())
	defer file.Close() // package net has a copy
	if err = unix.Bind(fd, socketAddress(at)); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err = bindMore(fd, at.Port(), homes); err != nil {
		return nil, err
	}
	if err = unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// association is a connection of the kernel's SCTP. The first question makes it, so
// that a refusal is the answer to that, as with UDP.
type association struct {
	*os.File
	ns        *netns.NS // where it is opened anew
	from, to  netip.AddrPort
	homes     []netip.Addr // besides from
	reset     bool         // at its end
	connected bool
	failed    bool // to be opened anew
	closed    bool // since its port was not free
	lines     *bufio.Reader
}

// openAssociation binds a socket to an address and port. Without an address it takes the one
// that packets to the peer come from: an unbound socket would name all of the host's
// addresses to its peer, and address translation does not change those. It is called in the namespace.
func openAssociation(ctx context.Context, from netip.AddrPort, homes []netip.Addr, to netip.AddrPort, reset bool) (*association, error) {
	if !from.Addr().IsValid() {
		a, err := addressTowards(ctx, to)
		if err != nil {
			return nil, err
		}
		from = netip.AddrPortFrom(a, from.Port())
	}
	a := &association{from: from, homes: homes, to: to, reset: reset}
	if err := a.open(); err != nil {
		return nil, err
	}
	return a, nil
}

// open makes the socket. It is called in the namespace.
func (a *association) open() error {
	fd, err := sctpSocket(a.to.Addr())
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	a.File = os.NewFile(uintptr(fd), a.to.String())
	a.lines = bufio.NewReader(a.File)
	a.connected, a.closed = false, false
	err = unix.Bind(fd, socketAddress(a.from))
	if err == nil {
		err = bindMore(fd, a.from.Port(), a.homes)
	}
	if err == nil {
		err = sendOnce(fd)
	}
	if err == nil && a.reset {
		err = abortOnClose(fd)
	}
	if err != nil {
		a.closed = true
		return errors.Join(fmt.Errorf("bind SCTP socket to %s: %w", a.from, err), a.Close())
	}
	a.failed = false
	return nil
}

// bindMore gives a socket that has an address more of them (RFC 6458, section 9.1). An IPv6 socket takes those of both families.
func bindMore(fd int, port uint16, addrs []netip.Addr) error {
	const bindxAdd = 100 // SCTP_SOCKOPT_BINDX_ADD
	var list []byte      // struct sockaddr_in or sockaddr_in6
	for _, a := range addrs {
		family := uint16(unix.AF_INET)
		if a.Is6() {
			family = unix.AF_INET6
		}
		list = binary.NativeEndian.AppendUint16(list, family)
		list = binary.BigEndian.AppendUint16(list, port)
		if a.Is6() {
			list = append(list, 0, 0, 0, 0) // flow information
		}
		list = append(list, a.AsSlice()...)
		if a.Is6() {
			list = append(list, 0, 0, 0, 0) // scope
		} else {
			list = append(list, 0, 0, 0, 0, 0, 0, 0, 0)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptString(fd, unix.IPPROTO_SCTP, bindxAdd, string(list)))
}

// sendOnce keeps the kernel from sending a chunk again before an attempt is over, so that one that is lost shows.
func sendOnce(fd int) error {
	const minute, rtoInfo = 60_000, 0                       // the most that the kernel takes; SCTP_RTOINFO
	var b []byte                                            // struct sctp_rtoinfo
	for _, v := range []uint32{0, minute, minute, minute} { // of this socket; first, most, least
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptString(fd, unix.IPPROTO_SCTP, rtoInfo, string(b)))
}

func abortOnClose(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
}

// renew opens an association anew that has failed: with the same addresses and ports, as a client does that
// goes on sending.
func (a *association) renew() error {
	if !a.failed {
		return nil
	}
	if !a.closed {
		if err := a.abort(); err != nil {
			return fmt.Errorf("abort SCTP association: %w", err)
		}
	}
	return a.ns.Do(a.open)
}

func (a *association) abort() error {
	raw, err := a.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err = raw.Control(func(fd uintptr) { failed = abortOnClose(int(fd)) }); err != nil {
		return err
	}
	return errors.Join(failed, a.Close())
}

// addressTowards returns the address that packets to an address come from.
func addressTowards(ctx context.Context, to netip.AddrPort) (netip.Addr, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network(UDP, to.Addr()), to.String()) // sends nothing
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

func (a *association) local() netip.AddrPort { return a.from }

func (a *association) ask(question string) (answer, error) {
	got, err := a.try(question)
	a.failed = err != nil
	return got, err
}

func (a *association) try(question string) (answer, error) {
	if !a.connected {
		if err := a.connect(); err != nil {
			return answer{}, err
		}
		a.connected = true
	}
	if _, err := fmt.Fprintln(a, question); err != nil {
		return answer{}, err
	}
	return readAnswer(a.lines, question)
}

// connect waits until there is an association, or the deadline has passed.
func (a *association) connect() error {
	raw, err := a.SyscallConn()
	if err != nil {
		return err
	}
	started := false
	var failed error
	err = raw.Write(func(fd uintptr) (done bool) {
		if !started {
			started = true
			failed = unix.Connect(int(fd), socketAddress(a.to))
			return !errors.Is(failed, unix.EINPROGRESS)
		}
		// A second connect would begin a new association after a refusal.
		failed = pendingError(int(fd))
		return failed != nil || !errors.Is(peerError(int(fd)), unix.ENOTCONN) // the runtime wakes up for nothing at times
	})
	if failed != nil && err == nil {
		err = os.NewSyscallError("connect", failed)
	}
	return err
}

// peerError fails as long as a socket has no peer.
func peerError(fd int) error {
	_, err := unix.Getpeername(fd)
	return err
}

// pendingError returns what became of a connect.
func pendingError(fd int) error {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}
