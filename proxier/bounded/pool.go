// SPDX-License-Identifier: Apache-2.0

package bounded

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// Pool bounds connections, of one listener or of several. Its methods may be called from
// several goroutines.
type Pool struct {
	mu sync.Mutex // guards what follows, and the same of each Conn
	members
}

// members are the connections of a Pool. They are for one goroutine at a time.
type members struct {
	most  int
	conns list.List // of *Conn, the one longest without progress first
	peers map[netip.Prefix]int
}

// NewPool returns a Pool of at most that many connections, and at least one.
func NewPool(most int) *Pool {
	return &Pool{members: members{most: max(1, most), peers: map[netip.Prefix]int{}}}
}

// Conn is a connection of a Pool, until it is closed.
type Conn struct {
	net.Conn
	pool    *Pool
	peer    netip.Prefix
	evicted func()

	// The pool's mu guards these.
	element *list.Element // nil once it has left
	busy    bool          // it is being answered
}

// Add takes a connection in, and closes another one if there is no room. Then, and if this one
// is closed for the same reason later, evicted is called, if it is not nil; it must not block.
func (p *Pool) Add(c net.Conn, evicted func()) *Conn {
	conn := &Conn{Conn: c, pool: p, peer: peerOf(c.RemoteAddr()), evicted: evicted}
	p.mu.Lock()
	victims := p.take(conn)
	p.mu.Unlock()
	for _, v := range victims {
		v.abort()
	}
	return conn
}

// take takes a connection in, and others out to have room; it returns those.
func (m *members) take(c *Conn) (victims []*Conn) {
	m.peers[c.peer]++
	for m.conns.Len() >= m.most {
		v := m.victim()
		m.remove(v)
		victims = append(victims, v)
	}
	c.element = m.conns.PushBack(c)
	return victims
}

// victim returns the connection to close first, of one or more.
func (m *members) victim() *Conn {
	var victim *Conn
	for e := m.conns.Front(); e != nil; e = e.Next() {
		c := e.Value.(*Conn)
		if victim == nil || m.peers[c.peer] > m.peers[victim.peer] || m.peers[c.peer] == m.peers[victim.peer] && victim.busy && !c.busy {
			victim = c
		}
	}
	return victim
}

// remove takes a connection out, if it is in.
func (m *members) remove(c *Conn) {
	if c.element == nil {
		return
	}
	m.conns.Remove(c.element)
	c.element = nil
	if m.peers[c.peer]--; m.peers[c.peer] == 0 {
		delete(m.peers, c.peer)
	}
}

// abort closes a connection without waiting for what was sent.
func (c *Conn) abort() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
	if c.evicted != nil {
		c.evicted()
	}
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.pool.mu.Lock()
	c.pool.remove(c)
	c.pool.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite says that nothing more is sent, as net.TCPConn's does.
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Progress says that the connection has been of use, so that others go before it.
func (c *Conn) Progress() { c.progress(false) }

func (c *Conn) progress(busy bool) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	c.busy = busy
	if c.element != nil {
		c.pool.conns.MoveToBack(c.element)
	}
}

// peerOf returns who is at an address: one host, which may have a whole network of IPv6.
func peerOf(a net.Addr) netip.Prefix {
	at, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := at.AddrPort().Addr().Unmap()
	bits := addr.BitLen()
	if addr.Is6() && !addr.IsLoopback() {
		bits = 64
	}
	p, _ := addr.WithZone("").Prefix(bits)
	return p
}

// Listener returns a listener whose connections are in the Pool.
func (p *Pool) Listener(l net.Listener) net.Listener { return listener{l, p} }

type listener struct {
	net.Listener
	pool *Pool
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.pool.Add(c, nil), nil
}
