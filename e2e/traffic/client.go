// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// ErrLost says that a packet of an attempt was lost: TCP had to send its SYN again. No
// clock decides that, as a busy machine may take a second for a packet's way.
var ErrLost = errors.New("the SYN had to be sent again")

// Client makes connections from a namespace. Copies are as good as the original.
type Client struct {
	NS *netns.NS
	// Source is the address and port to come from. Without an address the kernel
	// chooses; without a port each connection gets one that was not used lately,
	// so that nothing on the way takes it for an older connection.
	Source netip.AddrPort
	// Homes are further addresses of an SCTP client, where the kernel speaks SCTP: it names them to its peer.
	Homes []netip.Addr
	// Timeout is that of one attempt. By default it is netns.Patience, and a lost packet is as bad as
	// silence: an attempt in which TCP had to send its SYN again has timed out, with ErrLost. (UDP and
	// SCTP send nothing again. TCP over IPv6 may learn of an ICMP port unreachable only by its second
	// SYN; it learns of a reset at once.)
	Timeout time.Duration
}

// Connect makes one new connection, asks once, and closes it. The result is of all of that.
func (c Client) Connect(ctx context.Context, p Protocol, to netip.AddrPort) Result {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	conn, err := c.Open(ctx, p, to)
	if err != nil {
		return Result{Outcome: outcomeOf(err), Err: err, Elapsed: time.Since(start)}
	}
	defer conn.Close()
	r := conn.Ask(ctx)
	r.Elapsed = time.Since(start)
	return r
}

// Open makes a connection to ask several times. UDP and SCTP send nothing yet. An SCTP
// association that gives no answer is aborted; the next question makes a new one, from the same port.
func (c Client) Open(ctx context.Context, p Protocol, to netip.AddrPort) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	var inUse error
	for {
		source := c.Source
		if source.Port() == 0 {
			source = netip.AddrPortFrom(source.Addr(), c.NS.NextPort())
		}
		conn, err := c.open(ctx, p, source, to)
		switch {
		case err == nil:
			return &Conn{asker: conn, timeout: c.timeout()}, nil
		case ctx.Err() == nil && errors.Is(err, syscall.EADDRINUSE):
			inUse = err // by somebody else, or for a moment still by the last connection
			continue
		case inUse != nil && os.IsTimeout(err):
			err = inUse
		}
		return nil, fmt.Errorf("connect from %s to %s %s: %w", c.NS.Name(), p, to, err)
	}
}

func (c Client) timeout() time.Duration {
	if c.Timeout == 0 {
		return netns.Patience()
	}
	return c.Timeout
}

func (c Client) open(ctx context.Context, p Protocol, source, to netip.AddrPort) (asker, error) {
	var local net.Addr
	dialer := net.Dialer{}
	switch p {
	case TCP:
		local = net.TCPAddrFromAddrPort(source)
	case UDP:
		local = net.UDPAddrFromAddrPort(source)
	case SCTP:
		if KernelSCTP() {
			return c.openKernel(ctx, source, to)
		}
		dialer.Control = reportErrors(to.Addr())
		if source.Addr().IsValid() {
			local = &net.IPAddr{IP: source.Addr().AsSlice()}
		}
	default:
		return nil, fmt.Errorf("unknown %s", p)
	}
	dialer.LocalAddr = local
	address := to.String()
	if p == SCTP {
		address = to.Addr().String() // raw sockets know no ports
	}
	var syns synWatch
	if p == TCP && c.Timeout == 0 {
		dialer.Control = syns.begin
	}
	var conn net.Conn
	err := c.NS.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network(p, to.Addr()), address)
		return err
	})
	if lost := syns.end(err); lost != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, lost
	}
	if err != nil {
		return nil, err
	}
	return newAsker(conn, p, source.Port(), to, c.Source.Port() != 0), nil
}

// openKernel opens an association of the kernel's SCTP.
func (c Client) openKernel(ctx context.Context, source, to netip.AddrPort) (asker, error) {
	var a *association
	err := c.NS.Do(func() (err error) {
		a, err = openAssociation(ctx, source, c.Homes, to, c.Source.Port() != 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.ns = c.NS
	return a, nil
}

// Conn is an open connection of a client. Use it from one goroutine at a time.
type Conn struct {
	asker
	timeout time.Duration
}

// asker is a connection of one of the protocols.
type asker interface {
	// ask sends a question and waits for its answer, until the deadline of the connection.
	ask(question string) (answer, error)
	local() netip.AddrPort
	SetDeadline(time.Time) error
	Close() error
}

// Ask sends one request and waits for the answer.
func (c *Conn) Ask(ctx context.Context) Result { return c.AskLong(ctx, 0) }

// AskLong asks with a request that is longer by so many bytes, up to 60,000. Its answer is as long. It takes several packets, in
// both directions. It is for TCP and for the kernel's SCTP.
func (c *Conn) AskLong(ctx context.Context, more int) Result {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if a, ok := c.asker.(*association); ok {
		if err := a.renew(); err != nil {
			return Result{Outcome: Failed, Local: c.local(), Err: err}
		}
	}
	release, err := c.bound(ctx)
	if err != nil {
		return Result{Outcome: Failed, Local: c.local(), Err: err}
	}
	a, err := c.ask(rand.Text() + strings.Repeat("x", more))
	release()
	if err != nil && ctx.Err() == context.Canceled {
		err = context.Canceled
	}
	r := Result{Outcome: outcomeOf(err), Local: c.local(), Elapsed: time.Since(start), Err: err}
	if err == nil {
		r.Backend, r.Peer = a.backend, a.peer
	}
	if c, ok := c.asker.(*tcpConn); ok {
		r.Resent = c.resent()
	}
	return r
}

// bound makes the connection's calls end when ctx does, until release is called.
func (c *Conn) bound(ctx context.Context) (release func(), err error) {
	deadline, _ := ctx.Deadline() // Ask has set one
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(time.Unix(1, 0))
		close(ended)
	})
	return func() {
		if !stop() {
			<-ended // or it would end the next request
		}
	}, nil
}

// Close closes the connection. One that came from a port of the caller's choice is
// reset, so that the port can be used again at once.
func (c *Conn) Close() error { return c.asker.Close() }

func newAsker(conn net.Conn, p Protocol, port uint16, to netip.AddrPort, reset bool) asker {
	switch p {
	case TCP:
		return newTCPConn(conn.(*net.TCPConn), reset)
	case UDP:
		return &udpConn{conn.(*net.UDPConn)}
	}
	return newSCTPConn(conn.(*net.IPConn), port, to)
}
