// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// A session ends when nothing was sent for as long as conntrack would remember it:
// one that was never answered, and one that was.
const (
	unrepliedTimeout = 30 * time.Second
	streamTimeout    = 120 * time.Second
)

// maxSessions bounds the clients of a port; datagrams of more are dropped.
const maxSessions = 4096

// maxDatagram is the largest UDP payload.
const maxDatagram = 65507

// udpServer forwards datagrams, each client's over a socket of its own.
type udpServer struct {
	conn     *net.UDPConn
	balancer *balancer
	running  sync.WaitGroup

	mu       sync.Mutex
	sessions map[netip.AddrPort]*udpSession
	closed   bool
}

type udpSession struct {
	backend  *net.UDPConn
	endpoint netip.AddrPort
	timeout  time.Duration // guarded by the server's mu
}

func newUDPServer(at netip.AddrPort, b *balancer) (*udpServer, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	s := &udpServer{conn: conn, balancer: b, sessions: map[netip.AddrPort]*udpSession{}}
	s.running.Go(s.read)
	return s, nil
}

// forget ends the sessions with endpoints that are gone: the next datagram begins
// another one.
func (s *udpServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for client, session := range s.sessions {
		if !s.balancer.has(session.endpoint) {
			_ = session.backend.Close()
			delete(s.sessions, client)
		}
	}
}

func (s *udpServer) stopListening() {
	_ = s.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for client, session := range s.sessions {
		_ = session.backend.Close()
		delete(s.sessions, client)
	}
}

func (s *udpServer) end() { s.running.Wait() }

func (s *udpServer) wait() { s.running.Wait() }

// read sends clients' datagrams on.
func (s *udpServer) read() {
	buf := make([]byte, maxDatagram)
	for {
		n, client, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if s.isClosed() {
				return
			}
			continue // an ICMP error for an earlier answer
		}
		if session := s.session(client); session != nil {
			_, _ = session.backend.Write(buf[:n]) // lost, as datagrams may be
		}
	}
}

func (s *udpServer) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// session returns the client's session, a new one if it has none; nil if it can
// have none.
func (s *udpServer) session(client netip.AddrPort) *udpSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.sessions[client]
	if session == nil {
		order := s.balancer.order()
		if s.closed || len(order) == 0 || len(s.sessions) >= maxSessions {
			return nil
		}
		backend, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(order[0]))
		if err != nil {
			return nil
		}
		session = &udpSession{backend: backend, endpoint: order[0], timeout: unrepliedTimeout}
		s.sessions[client] = session
		s.running.Go(func() { s.answer(client, session) })
	}
	_ = session.backend.SetReadDeadline(time.Now().Add(session.timeout))
	return session
}

// answer sends the endpoint's datagrams back to the client until the session ends.
func (s *udpServer) answer(client netip.AddrPort, session *udpSession) {
	defer s.drop(client, session)
	buf := make([]byte, maxDatagram)
	for {
		n, err := session.backend.Read(buf)
		if err != nil {
			return // idle, closed, or refused: the next datagram begins another session
		}
		s.mu.Lock()
		session.timeout = streamTimeout
		_ = session.backend.SetReadDeadline(time.Now().Add(session.timeout))
		s.mu.Unlock()
		_, _ = s.conn.WriteToUDPAddrPort(buf[:n], client)
	}
}

func (s *udpServer) drop(client netip.AddrPort, session *udpSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = session.backend.Close()
	if s.sessions[client] == session {
		delete(s.sessions, client)
	}
}
