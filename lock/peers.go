// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lock

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what peers may take, though they are root's or this user's.
const (
	mostPeers     = 32 // that are connected at once
	longestHello  = 4 << 10
	longestAnswer = 64 << 10
	peerTime      = 2 * time.Second
	strangerPause = 5 * time.Millisecond // before the next connection, after one of somebody else's
)

// socketAddress returns the name of the abstract socket with a random part.
func socketAddress(random string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: "@nftproxy-lock/" + random}
}

// hello is what a peer says first, and again when it has changed: nothing but that it asks, or that it waits.
type hello struct {
	Waiting *Process `json:"waiting,omitempty"`
}

// answer is what it gets.
type answer struct {
	Self    Process   `json:"self"`
	Waiting []Process `json:"waiting,omitempty"`
}

// server answers peers at this process's socket.
type server struct {
	listener *net.UnixListener
	random   string
	self     func() Process
	done     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting map[net.Conn]*Process // nil: it only asks
}

// listen opens the socket, in the calling thread's network namespace.
func listen(self func() Process) (*server, error) {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // it cannot fail
	s := &server{random: hex.EncodeToString(random), self: self, waiting: map[net.Conn]*Process{}}
	var err error
	if s.listener, err = net.ListenUnix("unix", socketAddress(s.random)); err != nil {
		return nil, fmt.Errorf("listen on an abstract Unix socket: %w", err)
	}
	s.done.Go(s.accept)
	return s, nil
}

func (s *server) accept() {
	for {
		conn, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // of descriptors there may be none left
			time.Sleep(strangerPause)
			continue
		}
		if !trusted(conn) || !s.add(conn) {
			_ = conn.Close()
			time.Sleep(strangerPause) // whoever it is shall not keep us busy
			continue
		}
		s.done.Go(func() {
			defer s.remove(conn)
			s.serve(conn)
		})
	}
}

func (s *server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.waiting) >= mostPeers {
		return false
	}
	s.waiting[conn] = nil
	return true
}

func (s *server) remove(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, conn)
}

// serve answers a peer until it goes. One that only asks must do so soon.
func (s *server) serve(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(peerTime))
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, longestHello)
	for lines.Scan() {
		var h hello
		if json.Unmarshal(lines.Bytes(), &h) != nil {
			return
		}
		if h.Waiting != nil {
			s.mu.Lock()
			s.waiting[conn] = h.Waiting
			s.mu.Unlock()
			_ = conn.SetReadDeadline(time.Time{})
		}
		_ = conn.SetWriteDeadline(time.Now().Add(peerTime))
		if json.NewEncoder(conn).Encode(s.answer()) != nil {
			return
		}
	}
}

func (s *server) answer() answer {
	a := answer{Self: s.self()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.waiting {
		if p != nil {
			a.Waiting = append(a.Waiting, *p)
		}
	}
	return a
}

// Close ends the server and all connections: those who wait take that for the end of this process.
func (s *server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.waiting {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
	return err
}

// trusted says whether a peer is root's or this user's.
func trusted(conn *net.UnixConn) bool {
	cred, err := credentials(conn)
	return err == nil && (cred.Uid == 0 || cred.Uid == uint32(os.Geteuid())) //nolint:gosec // uids have 32 bits
}

// credentials returns who connected, or who listened.
func credentials(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(controlErr, err)
}

// errStranger says that somebody else has a socket's name.
var errStranger = errors.New("the socket is neither root's nor this user's")

// peer is another process that is connected.
type peer struct {
	*net.UnixConn
	pid int // in this process's PID namespace; 0: it is not in that
}

// dial connects to the socket with a random part.
func dial(random string) (*peer, error) {
	if random == "" {
		return nil, errors.New("it has no socket")
	}
	conn, err := net.DialUnix("unix", nil, socketAddress(random))
	if err != nil {
		return nil, fmt.Errorf("connect to its socket: %w", err)
	}
	if !trusted(conn) {
		_ = conn.Close()
		return nil, errStranger
	}
	p := &peer{UnixConn: conn}
	if cred, err := credentials(conn); err == nil {
		p.pid = int(cred.Pid)
	}
	return p, nil
}

// end ends the connection.
func (p *peer) end() { _ = p.Close() }

// say sends a hello.
func (p *peer) say(h hello) error {
	_ = p.SetWriteDeadline(time.Now().Add(peerTime))
	return json.NewEncoder(p).Encode(h)
}

// ask asks, and returns what the peer says of itself and of those who wait for it.
func (p *peer) ask() (a answer, err error) {
	_ = p.SetDeadline(time.Now().Add(peerTime))
	if err := p.say(hello{}); err != nil {
		return a, fmt.Errorf("ask at its socket: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(p, longestAnswer)).Decode(&a); err != nil {
		return a, fmt.Errorf("ask at its socket: %w", err)
	}
	if p.pid != 0 {
		a.Self.PID, a.Self.PIDNamespace = p.pid, pidNamespace()
	}
	return a, nil
}
