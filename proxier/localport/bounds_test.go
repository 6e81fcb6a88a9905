// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/proxier/bounded"
)

// held returns the memory that is held, garbage left out.
func held() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestManyDatagramClients: one byte from each of 4,096 ports holds little memory and few sockets, over all ports,
// and those who come later are served.
func TestManyDatagramClients(t *testing.T) {
	const clients, mostMemory = 4096, 16 << 20
	f := New()
	defer f.Close()
	sink := func(host string) netip.AddrPort {
		c, err := net.ListenPacket("udp", host+":0") // nobody reads
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	before := held()
	var ports []Port
	for _, host := range loopbacks {
		p := free(t, "udp", host)
		if err := f.Set(p, []netip.AddrPort{sink(host)}, 0); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, p)
	}
	for i := range clients {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(ports[i%len(ports)].Addr))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	host := loopbacks["IPv4"]
	echo := free(t, "udp", host)
	if err := f.Set(echo, []netip.AddrPort{serve(t, "udp", host, "a").addr}, 0); err != nil {
		t.Fatal(err)
	}
	c := dial(t, echo)
	if got := ask(c, "hello"); got != "a" {
		t.Errorf("after %d clients: %q", clients, got)
	}
	f.shared.flows.mu.Lock()
	flows := f.shared.flows.list.Len()
	f.shared.flows.mu.Unlock()
	if flows > f.shared.flows.most || flows < 2 {
		t.Errorf("%d flows are held, want at most %d, and those of more than one client", flows, f.shared.flows.most)
	}
	eventually(t, "giving up the others' memory", func() bool { return held()-before < mostMemory })
}

// TestIdleDatagramFlowEnds: of too many flows the one that has been quiet for longest ends, not one in use.
func TestIdleDatagramFlowEnds(t *testing.T) {
	f := New()
	defer f.Close()
	f.shared.flows.most = 2
	host := loopbacks["IPv4"]
	p := free(t, "udp", host)
	if err := f.Set(p, []netip.AddrPort{serve(t, "udp", host, "a").addr}, 0); err != nil {
		t.Fatal(err)
	}
	busy := dial(t, p)
	from := func() netip.AddrPort {
		s := f.ports[p].server.(*udpServer)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.sessions[busy.LocalAddr().(*net.UDPAddr).AddrPort()].backend.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	_ = ask(busy, "0")
	first := from()
	for range 5 {
		if got := ask(dial(t, p), "x"); got != "a" {
			t.Errorf("another client: %q", got)
		}
		if got := ask(busy, "y"); got != "a" {
			t.Errorf("the first client: %q", got)
		}
	}
	if now := from(); now != first {
		t.Errorf("the first client's flow has moved from %s to %s", first, now)
	}
}

// TestTooManyConnections: a new connection takes the place of the one that has been quiet for longest, which is
// closed on both sides.
func TestTooManyConnections(t *testing.T) {
	for family, host := range loopbacks {
		t.Run(family, func(t *testing.T) {
			f := New()
			defer f.Close()
			f.shared.connections = bounded.NewPool(3)
			p := free(t, "tcp", host)
			if err := f.Set(p, []netip.AddrPort{serve(t, "tcp", host, "a").addr}, 0); err != nil {
				t.Fatal(err)
			}
			var clients []net.Conn
			for range 6 {
				c := dial(t, p)
				if got := ask(c, "hello"); got != "a" {
					t.Errorf("connection %d: %q", len(clients), got)
				}
				clients = append(clients, c)
			}
			for i, c := range clients {
				_ = c.SetDeadline(time.Now().Add(patience))
				if i >= 3 {
					if got := ask(c, "again"); got != "a" {
						t.Errorf("connection %d: %q", i, got)
					}
				} else if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("connection %d is open: %v", i, err)
				}
			}
		})
	}
}

// TestIdleConnections: a connection that is idle for too long ends on both sides, and one that a side has closed.
func TestIdleConnections(t *testing.T) {
	pair := func() (here, there *net.TCPConn) {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		there, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
		if err != nil {
			t.Fatal(err)
		}
		here, err = l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		return here, there
	}
	for _, half := range []bool{false, true} {
		client, theirs := pair()
		backend, itsPeer := pair()
		l := &link{held: bounded.NewPool(1).Add(client, nil), client: client, backend: backend, idle: time.Hour, last: time.Now()}
		if half {
			l.halfClose()
			if l.idle != closeWaitTimeout {
				t.Errorf("a connection that is half closed may be idle for %v", l.idle)
			}
		}
		l.last = time.Now().Add(-2 * time.Hour)
		var both sync.WaitGroup
		both.Go(func() { l.pipe(backend, client) })
		l.pipe(client, backend)
		both.Wait()
		for _, c := range []*net.TCPConn{theirs, itsPeer} {
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("half closed %v: it has not ended: %v", half, err)
			}
			_ = c.Close()
		}
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// TestTooManyPorts: listeners leave descriptors for others; a port that is given up is free for another one.
func TestTooManyPorts(t *testing.T) {
	each(t, func(t *testing.T, network, host string) {
		f := newForwarder(t)
		f.most = 1
		a, first, second := serve(t, network, host, "a"), free(t, network, host), free(t, network, host)
		set(t, f, first, 0, a)
		if err := f.Set(second, []netip.AddrPort{a.addr}, 0); err == nil || !strings.Contains(err.Error(), "raise the limit of open files") {
			t.Errorf("error %v, want one that says what to do", err)
		}
		set(t, f, second, 0, a) // without an error: it has been told
		set(t, f, first, 0)     // without endpoints nobody listens
		set(t, f, second, 0, a)
		if got := once(t, second); got != "a" {
			t.Errorf("%s, want a", got)
		}
	})
	if f := newForwarder(t); f.most < 4 || f.most > bounded.Descriptors()/2 {
		t.Errorf("it listens at up to %d ports with %d descriptors", f.most, bounded.Descriptors())
	}
}
