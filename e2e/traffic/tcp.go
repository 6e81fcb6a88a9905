// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// tcpConn asks by a line and is answered by a line.
type tcpConn struct {
	*net.TCPConn
	lines *bufio.Reader
}

func newTCPConn(conn *net.TCPConn, reset bool) *tcpConn {
	if reset {
		_ = conn.SetLinger(0) // fails only on a closed connection
	}
	return &tcpConn{TCPConn: conn, lines: bufio.NewReader(conn)}
}

func (c *tcpConn) local() netip.AddrPort { return c.LocalAddr().(*net.TCPAddr).AddrPort() }

func (c *tcpConn) ask(question string) (answer, error) {
	if _, err := fmt.Fprintln(c, question); err != nil {
		return answer{}, err
	}
	return readAnswer(c.lines, question)
}

// resent returns how many packets this end sent again since there is the connection.
func (c *tcpConn) resent() int {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { // fails only on a closed connection
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Total_retrans)
		}
	})
	return n
}

// serveStream answers the lines of every connection until the listener is closed.
func (s *Server) serveStream(listener *net.TCPListener, at Endpoint) {
	for {
		conn, err := listener.AcceptTCP()
		if err != nil {
			return
		}
		if !s.keep(conn) {
			return
		}
		s.running.Go(func() {
			s.answerLines(conn, at)
			s.drop(conn)
		})
	}
}

func (s *Server) answerLines(conn *net.TCPConn, at Endpoint) {
	peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		s.note(at, peer)
		a := answer{question: strings.TrimSpace(lines.Text()), backend: at.Address, peer: peer}
		if _, err := fmt.Fprintln(conn, a); err != nil {
			return
		}
	}
}
