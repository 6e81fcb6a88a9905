// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// udpConn asks by a datagram and is answered by a datagram.
type udpConn struct {
	*net.UDPConn
}

func (c *udpConn) local() netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func (c *udpConn) ask(question string) (answer, error) {
	if _, err := c.Write([]byte(question)); err != nil && !rejectedOnOutput(err) {
		return answer{}, err
	}
	buf := make([]byte, 1500)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return answer{}, err
		}
		if a, err := parseAnswer(string(buf[:n])); err != nil || a.question == question {
			return a, err
		}
	}
}

// WithoutChecksums makes a connection of UDP over IPv4 send datagrams without checksums from now on.
func (c *Conn) WithoutChecksums() error {
	u, ok := c.asker.(*udpConn)
	if !ok {
		return errors.New("send without checksums: it is no connection of UDP")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return fmt.Errorf("send without checksums: %w", err)
	}
	failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
	if err = errors.Join(failed, err); err != nil {
		return fmt.Errorf("send without checksums: %w", err)
	}
	return nil
}

// rejectedOnOutput tells that a rule on this host's own output hook stopped the
// packet. If it was a reject rule, an ICMP error follows; if not, nothing does,
// as for every client further away.
func rejectedOnOutput(err error) bool { return errors.Is(err, syscall.EPERM) }

// serveUDP answers datagrams until the socket is closed.
func (s *Server) serveUDP(conn *net.UDPConn, at netip.AddrPort) {
	buf := make([]byte, 1500)
	for {
		n, peer, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error for an earlier answer
		}
		s.note(Endpoint{UDP, at}, peer)
		a := answer{question: strings.TrimSpace(string(buf[:n])), backend: at, peer: peer}
		_, _ = conn.WriteToUDPAddrPort([]byte(a.String()), peer) // the client notices
	}
}
