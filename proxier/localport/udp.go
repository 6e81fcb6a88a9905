// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"container/list"
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

// udpServer forwards datagrams, each client's over a socket of its own.
type udpServer struct {
	conn     *net.UDPConn
	balancer *balancer
	shared   *shared
	running  sync.WaitGroup

	mu sync.Mutex // guards what follows
	udpSessions
}

// udpSessions are those of a server's clients. They are for one goroutine at a time.
type udpSessions struct {
	flows    *flows
	sessions map[netip.AddrPort]*udpSession
	closed   bool
}

type udpSession struct {
	backend  *net.UDPConn
	endpoint netip.AddrPort
	timeout  time.Duration // guarded by the server's mu
	element  *list.Element // guarded by flows' mu; nil once it has been removed
}

func newUDPServer(at netip.AddrPort, b *balancer, sh *shared) (*udpServer, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	s := &udpServer{conn: conn, balancer: b, shared: sh, udpSessions: udpSessions{flows: &sh.flows, sessions: map[netip.AddrPort]*udpSession{}}}
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
			s.endSession(client, session)
		}
	}
}

func (s *udpServer) stopListening() {
	_ = s.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for client, session := range s.sessions {
		s.endSession(client, session)
	}
}

// endSession ends a session.
func (s *udpSessions) endSession(client netip.AddrPort, session *udpSession) {
	_ = session.backend.Close()
	s.flows.remove(session)
	if s.sessions[client] == session {
		delete(s.sessions, client)
	}
}

func (s *udpServer) end() { s.running.Wait() }

func (s *udpServer) wait() { s.running.Wait() }

// read sends clients' datagrams on.
func (s *udpServer) read() {
	for {
		err := s.shared.buffers.receive(s.conn, func(data []byte, client netip.AddrPort) {
			if session := s.session(client); session != nil {
				_, _ = session.backend.Write(data) // lost, as datagrams may be
			}
		})
		if err != nil && s.isClosed() {
			return // else an ICMP error for an earlier answer
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
		if s.closed || len(order) == 0 {
			return nil
		}
		backend, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(order[0]))
		if err != nil {
			return nil
		}
		session = &udpSession{backend: backend, endpoint: order[0], timeout: unrepliedTimeout}
		s.sessions[client] = session
		s.shared.flows.add(session)
		s.running.Go(func() { s.answer(client, session) })
	}
	s.shared.flows.used(session)
	_ = session.backend.SetReadDeadline(time.Now().Add(session.timeout))
	return session
}

// answer sends the endpoint's datagrams back to the client until the session ends.
func (s *udpServer) answer(client netip.AddrPort, session *udpSession) {
	defer s.drop(client, session)
	for {
		err := s.shared.buffers.receive(session.backend, func(data []byte, _ netip.AddrPort) {
			s.shared.flows.used(session)
			_, _ = s.conn.WriteToUDPAddrPort(data, client)
		})
		if err != nil {
			return // idle, closed, or refused: the next datagram begins another session
		}
		s.mu.Lock()
		session.timeout = streamTimeout
		_ = session.backend.SetReadDeadline(time.Now().Add(session.timeout))
		s.mu.Unlock()
	}
}

func (s *udpServer) drop(client netip.AddrPort, session *udpSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endSession(client, session)
}
