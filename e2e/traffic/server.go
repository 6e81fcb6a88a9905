// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// Server answers requests at a number of endpoints in one namespace.
type Server struct {
	running sync.WaitGroup

	mu       sync.Mutex
	open     map[io.Closer]bool // listeners, sockets, connections; nil after Close
	requests []Request
	bad      []error
}

// Request is a request that a server got.
type Request struct {
	Endpoint Endpoint       // where it came to
	Peer     netip.AddrPort // where it came from, as the server saw it
}

// Serve answers requests at the endpoints until Close. Each endpoint has a
// socket that is bound to its address, so that answers come from the address that
// was asked; an unspecified address is an error. A port of 0 is not allowed.
func Serve(ns *netns.NS, endpoints ...Endpoint) (*Server, error) {
	s := &Server{open: map[io.Closer]bool{}}
	err := ns.Do(func() error { return s.listen(endpoints) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve in %s: %w", ns.Name(), err), s.Close())
	}
	return s, nil
}

// ServeSCTP answers at one endpoint of the kernel's SCTP that has further addresses, which it names to its peers. IPv4 addresses
// beside an IPv6 one are fine.
func ServeSCTP(ns *netns.NS, at netip.AddrPort, homes ...netip.Addr) (*Server, error) {
	s := &Server{open: map[io.Closer]bool{}}
	err := ns.Do(func() error {
		l, err := listenSCTP(at, homes...)
		if err == nil {
			s.start(l, func() { s.serveStream(l, Endpoint{SCTP, at}) })
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve in %s: %w", ns.Name(), err), s.Close())
	}
	return s, nil
}

// Requests returns what was asked so far, in the order it came.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Forget forgets the requests so far: of a server that answers for hours nobody reads them.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// Bad returns an error for each packet that got no answer because it was broken:
// an SCTP packet with a wrong checksum or without an INIT chunk. The kernel's SCTP tells of none.
func (s *Server) Bad() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bad)
}

// Close stops answering, closes open connections, and waits until all is stopped.
func (s *Server) Close() error { return s.end(false) }

// Abort stops answering as a program does that is killed while it has much to read: connections are not closed but reset.
func (s *Server) Abort() error { return s.end(true) }

func (s *Server) end(reset bool) error {
	s.mu.Lock()
	var errs []error
	for c := range s.open {
		if conn, ok := c.(*net.TCPConn); ok && reset { // or an association of SCTP
			errs = append(errs, conn.SetLinger(0))
		}
		errs = append(errs, c.Close())
	}
	s.open = nil
	s.mu.Unlock()
	s.running.Wait()
	return errors.Join(errs...)
}

// listen opens all sockets and starts to serve them.
func (s *Server) listen(endpoints []Endpoint) error {
	kernel := KernelSCTP()
	raw := map[netip.Addr]map[uint16]bool{} // SCTP ports by address, where the kernel does not speak it
	for _, e := range endpoints {
		addr, port := e.Address.Addr(), e.Address.Port()
		if !addr.IsValid() || addr.IsUnspecified() || port == 0 {
			return fmt.Errorf("%s: want one address and port", e)
		}
		if e.Protocol == SCTP && !kernel {
			if raw[addr] == nil {
				raw[addr] = map[uint16]bool{}
			}
			raw[addr][port] = true
			continue
		}
		if err := s.listenPort(e); err != nil {
			return fmt.Errorf("%s: %w", e, err)
		}
	}
	for addr, ports := range raw {
		if err := s.listenRaw(addr, ports); err != nil {
			return fmt.Errorf("%s %s: %w", SCTP, addr, err)
		}
	}
	return nil
}

func (s *Server) listenPort(e Endpoint) error {
	var config net.ListenConfig
	name, address := network(e.Protocol, e.Address.Addr()), e.Address.String()
	switch e.Protocol {
	case TCP:
		l, err := config.Listen(context.Background(), name, address)
		if err != nil {
			return err
		}
		s.start(l, func() { s.serveStream(l.(*net.TCPListener), e) })
		return nil
	case SCTP:
		l, err := listenSCTP(e.Address)
		if err != nil {
			return err
		}
		s.start(l, func() { s.serveStream(l, e) })
		return nil
	case UDP:
		conn, err := config.ListenPacket(context.Background(), name, address)
		if err != nil {
			return err
		}
		s.start(conn, func() { s.serveUDP(conn.(*net.UDPConn), e.Address) })
		return nil
	}
	return errors.New("unknown protocol")
}

func (s *Server) listenRaw(addr netip.Addr, ports map[uint16]bool) error {
	var config net.ListenConfig
	conn, err := config.ListenPacket(context.Background(), network(SCTP, addr), addr.String())
	if err != nil {
		return err
	}
	takeMuch(conn.(*net.IPConn))
	s.start(conn, func() { s.serveSCTP(conn.(*net.IPConn), addr, ports) })
	return nil
}

func (s *Server) start(c io.Closer, serve func()) {
	s.keep(c)
	s.running.Go(serve)
}

// keep remembers what Close must close. If Close has been called it closes c
// and returns false.
func (s *Server) keep(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		_ = c.Close()
		return false
	}
	s.open[c] = true
	return true
}

// drop closes a connection whose client is done.
func (s *Server) drop(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[c] {
		delete(s.open, c)
		_ = c.Close()
	}
}

func (s *Server) note(e Endpoint, peer netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{Endpoint: e, Peer: peer})
}

func (s *Server) noteBad(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, err)
}

// takeMuch makes room for many packets. A kernel takes a raw socket that is full for none, and tells the sender that nobody speaks
// the protocol: on a busy machine that would look like a refusal.
func takeMuch(conn *net.IPConn) {
	const bytes = 8 << 20
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) }) // only root may
	}
}
