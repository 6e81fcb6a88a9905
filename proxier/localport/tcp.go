// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/proxier/bounded"
)

// dialTimeout bounds how long an endpoint may take to answer before the next one is
// tried, dialsTimeout how long all of them may.
const (
	dialTimeout  = 5 * time.Second
	dialsTimeout = 30 * time.Second
)

// A connection ends when nothing was sent for as long as kube-proxy has conntrack remember it: one
// that is open on both sides, and one that a side has closed.
const (
	idleTimeout      = 24 * time.Hour
	closeWaitTimeout = time.Hour
)

// tcpServer forwards connections.
type tcpServer struct {
	listener *net.TCPListener
	balancer *balancer
	pool     *bounded.Pool
	ctx      context.Context // ends with end
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func newTCPServer(at netip.AddrPort, b *balancer, pool *bounded.Pool) (*tcpServer, error) {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	s := &tcpServer{listener: listener, balancer: b, pool: pool}
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
		ctx, cancel := context.WithCancel(s.ctx)
		held := s.pool.Add(client, cancel)
		s.running.Go(func() {
			defer cancel()
			s.forward(ctx, held, client)
		})
	}
}

// forward connects a client, which holds a place in the pool, to an endpoint until either has gone.
func (s *tcpServer) forward(ctx context.Context, held *bounded.Conn, client *net.TCPConn) {
	defer func() { _ = held.Close() }()
	backend, err := s.dial(ctx)
	if err != nil {
		_ = client.SetLinger(0) // a reset says that it failed
		return
	}
	defer func() { _ = backend.Close() }()
	defer context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = backend.Close()
	})()
	l := &link{held: held, client: client, backend: backend, idle: idleTimeout, last: time.Now()}
	var other sync.WaitGroup
	other.Go(func() { l.pipe(backend, client) })
	l.pipe(client, backend)
	other.Wait()
}

// dial connects to the endpoint whose turn it is, or else to the first other one that
// answers.
func (s *tcpServer) dial(ctx context.Context) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialsTimeout)
	defer cancel()
	err := errNoEndpoint
	for i, e := range s.balancer.order() {
		one, stop := context.WithTimeout(ctx, dialTimeout)
		var conn net.Conn
		conn, err = new(net.Dialer).DialContext(one, "tcp", e.String())
		stop()
		if err == nil {
			if i > 0 {
				s.balancer.pin(e)
			}
			return conn.(*net.TCPConn), nil
		}
	}
	return nil, err
}

// link is two connections that are one.
type link struct {
	held            *bounded.Conn
	client, backend *net.TCPConn

	mu   sync.Mutex
	idle time.Duration // that ends it
	last time.Time     // when something was sent
}

// pipe copies until one side has said all, and passes that on.
func (l *link) pipe(to, from *net.TCPConn) {
	if err := l.copy(to, from); err != nil {
		// One side is gone: end the other one, too.
		_ = to.SetLinger(0)
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.CloseWrite()
	l.halfClose()
}

// copy copies until nothing more comes.
func (l *link) copy(to, from *net.TCPConn) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	for {
		l.arm(from)
		switch err := copyChunk(to, raw); {
		case err == nil:
			l.moved()
		case errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded) || l.isIdle():
			return err
		}
	}
}

// arm lets a side wait for no longer than the link may be idle.
func (l *link) arm(side *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = side.SetReadDeadline(l.last.Add(l.idle))
}

// moved notes that something was sent.
func (l *link) moved() {
	now := time.Now()
	l.mu.Lock()
	recent := now.Sub(l.last) < time.Second
	if !recent {
		l.last = now
	}
	l.mu.Unlock()
	if !recent {
		l.held.Progress()
	}
}

func (l *link) isIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.last) >= l.idle
}

// halfClose gives the other direction less time.
func (l *link) halfClose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle, l.last = closeWaitTimeout, time.Now()
	for _, side := range []*net.TCPConn{l.client, l.backend} {
		_ = side.SetReadDeadline(l.last.Add(l.idle))
	}
}

func isTemporary(err error) bool {
	t, ok := err.(interface{ Temporary() bool })
	return ok && t.Temporary()
}
