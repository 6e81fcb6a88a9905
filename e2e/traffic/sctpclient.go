// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// sctpConn asks by an INIT chunk and is answered by an INIT ACK, in raw IP packets
// of a socket that is connected to the server's address.
type sctpConn struct {
	*net.IPConn
	port uint16
	to   netip.AddrPort
}

func newSCTPConn(conn *net.IPConn, port uint16, to netip.AddrPort) *sctpConn {
	return &sctpConn{IPConn: conn, port: port, to: to}
}

func (c *sctpConn) local() netip.AddrPort {
	addr, _ := netip.AddrFromSlice(c.LocalAddr().(*net.IPAddr).IP)
	return netip.AddrPortFrom(addr.Unmap(), c.port)
}

func (c *sctpConn) ask(question string) (answer, error) {
	tag := rand.Uint32N(1<<32-1) + 1
	init := sctpPacket{source: c.port, destination: c.to.Port(), chunk: chunkInit, initiateTag: tag}
	if err := c.send(init.marshal()); err != nil {
		return answer{}, err
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := c.ReadFromIP(buf)
		if err != nil {
			if err = c.meaning(err); err != nil {
				return answer{}, err
			}
			continue
		}
		p, err := parseSCTP(buf[:n])
		if p.source != c.to.Port() || p.destination != c.port {
			continue // of another connection to the same address
		}
		if err != nil {
			return answer{}, err
		}
		if p.tag == tag {
			return readInitAck(p, question)
		}
	}
}

// send sends a packet, past queued errors that belong to other connections.
func (c *sctpConn) send(packet []byte) error {
	const tries = 10
	var err error
	for range tries {
		if _, err = c.Write(packet); err == nil || rejectedOnOutput(err) {
			return nil
		}
		if own := c.meaning(err); own != nil {
			return own
		}
	}
	return fmt.Errorf("send INIT: %w", err)
}

func readInitAck(p sctpPacket, question string) (answer, error) {
	if p.chunk != chunkInitAck {
		return answer{}, fmt.Errorf("got chunk of type %d, want INIT ACK", p.chunk)
	}
	// An INIT has no room for the question: the tag has matched already.
	return parseAnswer(question + " " + string(p.cookie))
}

// reportErrors makes the kernel queue ICMP errors with the packet that each is
// about. Without it a raw socket takes errors for all packets to its peer's address,
// whatever their ports.
func reportErrors(to netip.Addr) func(_, _ string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		if to.Is6() {
			return setsockopt(raw, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
		}
		return setsockopt(raw, unix.SOL_IP, unix.IP_RECVERR, 1)
	}
}

func setsockopt(raw syscall.RawConn, level, name, value int) error {
	var err error
	if failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, value) }); failed != nil {
		return failed
	}
	return err
}

// meaning returns what an error of the socket says about this connection: nil if
// it is about another one.
func (c *sctpConn) meaning(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err // the deadline
	}
	raw, rawErr := c.SyscallConn()
	if rawErr != nil {
		return rawErr
	}
	var found error
	rawErr = raw.Control(func(fd uintptr) { found = c.readErrors(int(fd)) })
	return errors.Join(found, rawErr)
}

// readErrors empties the socket's error queue and returns the error, if any, that
// is about a packet of this connection.
func (c *sctpConn) readErrors(fd int) error {
	var found error
	packet, control := make([]byte, 1500), make([]byte, 512)
	for {
		n, cn, _, _, err := unix.Recvmsg(fd, packet, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return found // EAGAIN: empty
		}
		if n < 4 || binary.BigEndian.Uint16(packet[0:]) != c.port || binary.BigEndian.Uint16(packet[2:]) != c.to.Port() {
			continue
		}
		if errno := queuedError(control[:cn]); errno != 0 {
			found = fmt.Errorf("told by ICMP: %w", errno)
		}
	}
}

// queuedError takes the errno out of struct sock_extended_err. Zero stands for none. As Linux's
// SCTP does, it takes IPv4's protocol unreachable for a refusal and no notice of port unreachable. Of IPv6's
// port unreachable SCTP takes no notice either; here it stands for what rules can do at most.
func queuedError(control []byte) syscall.Errno {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		v4 := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if (v4 || v6) && len(m.Data) >= 8 && m.Data[4] != unix.SO_EE_ORIGIN_LOCAL {
			switch errno := syscall.Errno(binary.NativeEndian.Uint32(m.Data)); {
			case v4 && errno == syscall.ECONNREFUSED:
				continue
			case v4 && errno == syscall.ENOPROTOOPT:
				return syscall.ECONNREFUSED
			default:
				return errno
			}
		}
	}
	return 0
}
