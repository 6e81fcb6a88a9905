// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

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
	_ = raw.Control(func(fd uintptr) { n = resent(int(fd)) }) // fails only on a closed connection
	return n
}

func resent(fd int) int {
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(info.Total_retrans)
}

// synWatch tells whether a socket that connects has to send its SYN again. Package net closes the socket
// when it cannot connect; the watch has a descriptor of its own.
type synWatch struct{ fd int }

func (w *synWatch) begin(_, _ string, raw syscall.RawConn) error {
	var err error
	failed := raw.Control(func(fd uintptr) { w.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
	return errors.Join(failed, err)
}

// end returns ErrLost if the SYN was sent again, though the connection was made or refused then. It
// ends the watch, if that was begun.
func (w *synWatch) end(connect error) error {
	if w.fd == 0 {
		return nil
	}
	n := resent(w.fd)
	_ = unix.Close(w.fd)
	if outcome := outcomeOf(connect); n == 0 || outcome != Answered && outcome != Refused {
		return nil
	}
	return fmt.Errorf("%w %d times, then: %w", ErrLost, n, orConnected(connect))
}

func orConnected(err error) error {
	if err == nil {
		err = errors.New("connected")
	}
	return err
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
