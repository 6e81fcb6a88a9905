// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// dialTimeout bounds how long an endpoint may take to answer before the next one is
// tried.
const dialTimeout = 5 * time.Second

// tcpServer forwards connections.
type tcpServer struct {
	listener *net.TCPListener
	balancer *balancer
	ctx      context.Context // ends with end
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func newTCPServer(at netip.AddrPort, b *balancer) (*tcpServer, error) {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	s := &tcpServer{listener: listener, balancer: b}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.accept)
	return s, nil
}

func (s *tcpServer) forget() {} // connections stay with their endpoint

func (s *tcpServer) stopListening() { _ = s.listener.Close() }

func (s *tcpServer) end() {
	s.cancel()
	s.running.Wait()
}

// wait returns when the last connection has ended.
func (s *tcpServer) wait() { s.running.Wait() }

func (s *tcpServer) accept() {
	for {
		client, err := s.listener.AcceptTCP()
		if err != nil {
			if s.ctx.Err() == nil && isTemporary(err) {
				time.Sleep(10 * time.Millisecond) // too many open files, most likely
				continue
			}
			return
		}
		s.running.Go(func() { s.forward(client) })
	}
}

func (s *tcpServer) forward(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	backend, err := s.dial()
	if err != nil {
		_ = client.SetLinger(0) // a reset says that it failed
		return
	}
	defer func() { _ = backend.Close() }()
	defer context.AfterFunc(s.ctx, func() {
		_ = client.Close()
		_ = backend.Close()
	})()
	var both sync.WaitGroup
	both.Go(func() { pipe(backend, client) })
	both.Go(func() { pipe(client, backend) })
	both.Wait()
}

// dial connects to the endpoint whose turn it is, or else to the first other one that
// answers.
func (s *tcpServer) dial() (*net.TCPConn, error) {
	err := errNoEndpoint
	for i, e := range s.balancer.order() {
		ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
		var conn net.Conn
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", e.String())
		cancel()
		if err == nil {
			if i > 0 {
				s.balancer.pin(e)
			}
			return conn.(*net.TCPConn), nil
		}
	}
	return nil, err
}

// pipe copies until one side has said all, and passes that on.
func pipe(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		// One side is gone: end the other one, too.
		_ = to.SetLinger(0)
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.CloseWrite()
}

func isTemporary(err error) bool {
	t, ok := err.(interface{ Temporary() bool })
	return ok && t.Temporary()
}
