// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// patience is more than anything here takes on a busy machine.
const patience = time.Minute

var loopbacks = map[string]string{"IPv4": "127.0.0.1", "IPv6": "[::1]"}

// backend answers lines, or datagrams, with its name and what it got, until the test
// ends or it is closed.
type backend struct {
	io.Closer
	addr netip.AddrPort
}

func serve(t *testing.T, network, host, name string) backend {
	t.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket("udp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			buf := make([]byte, 2000)
			for {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo([]byte(name+" "+string(buf[:n])), from)
			}
		}()
		return backend{conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	}
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					_, _ = fmt.Fprintf(conn, "%s %s", name, lines.Text())
				}
				_, _ = fmt.Fprint(conn, "bye") // after the client has said all
			}()
		}
	}()
	return backend{l, l.Addr().(*net.TCPAddr).AddrPort()}
}

// handed are the ports that free has returned.
var handed sync.Map

// free returns a port that nobody has, another one each time. It is none that the kernel gives to other tests' sockets meanwhile.
func free(t *testing.T, network, host string) Port {
	t.Helper()
	for range 1000 {
		p := Port{network, netip.MustParseAddrPort(fmt.Sprintf("%s:%d", host, 10000+rand.N(20000)))}
		if _, before := handed.LoadOrStore(p, true); !before && available(p) {
			return p
		}
	}
	t.Fatal("no port is free")
	return Port{}
}

// available says whether a port can be listened at.
func available(p Port) bool {
	var c io.Closer
	var err error
	if p.Network == "udp" {
		c, err = net.ListenPacket(p.Network, p.Addr.String())
	} else {
		c, err = net.Listen(p.Network, p.Addr.String())
	}
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func dial(t *testing.T, p Port) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout(p.Network, p.Addr.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends a word on a connection and returns who answered.
func ask(conn net.Conn, word string) string {
	if _, err := fmt.Fprintln(conn, word); err != nil {
		return "nobody"
	}
	buf := make([]byte, 2000)
	n, err := conn.Read(buf)
	if err != nil {
		return "nobody"
	}
	name, rest, _ := strings.Cut(strings.TrimSpace(string(buf[:n])), " ")
	if rest != word {
		return fmt.Sprintf("%s, who heard %q", name, rest)
	}
	return name
}

// once asks over a new connection.
func once(t *testing.T, p Port) string {
	t.Helper()
	conn, err := net.DialTimeout(p.Network, p.Addr.String(), patience)
	if err != nil {
		return "nobody"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	return ask(conn, "hello")
}

func times(t *testing.T, p Port, n int) string {
	t.Helper()
	var who []string
	for range n {
		who = append(who, once(t, p))
	}
	return strings.Join(who, " ")
}

// each runs a test for both protocols over both families.
func each(t *testing.T, test func(t *testing.T, network, host string)) {
	for _, network := range []string{"tcp", "udp"} {
		for family, host := range loopbacks {
			t.Run(network+" "+family, func(t *testing.T) { test(t, network, host) })
		}
	}
}

func newForwarder(t *testing.T) *Forwarder {
	t.Helper()
	f := New()
	t.Cleanup(f.Close)
	return f
}

func set(t *testing.T, f *Forwarder, p Port, affinity time.Duration, backends ...backend) {
	t.Helper()
	var list []netip.AddrPort
	for _, b := range backends {
		list = append(list, b.addr)
	}
	if err := f.Set(p, list, affinity); err != nil {
		t.Fatal(err)
	}
}

func TestForward(t *testing.T) {
	each(t, func(t *testing.T, network, host string) {
		a, b, c := serve(t, network, host, "a"), serve(t, network, host, "b"), serve(t, network, host, "c")
		f := newForwarder(t)
		p := free(t, network, host)
		expect := func(what, want string) {
			t.Helper()
			if got := times(t, p, len(strings.Fields(want))); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		expect("before", "nobody")
		set(t, f, p, 0, a, b, c)
		expect("three endpoints", "a b c a")
		set(t, f, p, 0, a, b, c)
		expect("the same endpoints", "b c a b")
		set(t, f, p, 0, a, c)
		expect("two endpoints", "a c a c")
		set(t, f, p, time.Hour, a, b, c)
		expect("affinity", "a a a a")
		set(t, f, p, time.Hour, b, c)
		expect("affinity to one that is gone", "b b b")
		set(t, f, p, 0)
		expect("no endpoints", "nobody")
		set(t, f, p, 0, b)
		expect("one again", "b b")
		f.Delete(p)
		expect("deleted", "nobody")
	})
}

// A client that goes on keeps its endpoint while that is there. When it goes, TCP
// stays and UDP moves.
func TestOpenConnections(t *testing.T) {
	each(t, func(t *testing.T, network, host string) {
		a, b := serve(t, network, host, "a"), serve(t, network, host, "b")
		f := newForwarder(t)
		p := free(t, network, host)
		set(t, f, p, 0, a, b)
		conn := dial(t, p)
		defer conn.Close()
		for range 3 {
			if who := ask(conn, "hello"); who != "a" {
				t.Fatalf("%s answered, want a each time", who)
			}
		}
		moved := map[string]string{"tcp": "a", "udp": "b"}[network]
		set(t, f, p, 0, b)
		if who := ask(conn, "hello"); who != moved {
			t.Errorf("when a is gone: %s answered, want %s", who, moved)
		}
		f.Delete(p)
		want := map[string]string{"tcp": "a", "udp": "nobody"}[network]
		if want == "nobody" {
			_ = conn.SetDeadline(time.Now().Add(time.Second)) // for which nothing is to come
		}
		if who := ask(conn, "hello"); who != want {
			t.Errorf("when the port is gone: %s answered, want %s", who, want)
		}
	})
}

// What the client has said and no more is passed on: it can still hear the answer.
func TestHalfClose(t *testing.T) {
	f := newForwarder(t)
	p := free(t, "tcp", "127.0.0.1")
	set(t, f, p, 0, serve(t, "tcp", "127.0.0.1", "a"))
	conn := dial(t, p)
	defer conn.Close()
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if heard, err := io.ReadAll(conn); err != nil || string(heard) != "bye" {
		t.Errorf("heard %q (%v), want bye", heard, err)
	}
}

// An endpoint that does not answer is passed over; when none does, the client is reset.
func TestDeadEndpoint(t *testing.T) {
	f := newForwarder(t)
	p := free(t, "tcp", "127.0.0.1")
	dead := backend{addr: free(t, "tcp", "127.0.0.1").Addr}
	a := serve(t, "tcp", "127.0.0.1", "a")
	set(t, f, p, 0, dead, a)
	if got := times(t, p, 4); got != "a a a a" {
		t.Errorf("%s, want a each time", got)
	}
	set(t, f, p, 0, dead)
	if got := once(t, p); got != "nobody" {
		t.Errorf("%s, want nobody", got)
	}
}

// A port that is taken is told of once and taken over when it is free.
func TestPortTaken(t *testing.T) {
	each(t, func(t *testing.T, network, host string) {
		taken := serve(t, network, host, "taken")
		f := newForwarder(t)
		p := Port{network, taken.addr}
		a := serve(t, network, host, "a")
		err := f.Set(p, []netip.AddrPort{a.addr}, 0)
		if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), p.String()) {
			t.Errorf("error %v, want one that names the port and the reason", err)
		}
		set(t, f, p, 0, a) // without an error: it has been told
		_ = taken.Close()
		set(t, f, p, 0, a)
		if got := once(t, p); got != "a" {
			t.Errorf("%s, want a", got)
		}
	})
}

func TestOtherProtocols(t *testing.T) {
	f := newForwarder(t)
	if err := f.Set(Port{Network: "sctp"}, []netip.AddrPort{{}}, 0); err == nil {
		t.Error("SCTP was accepted")
	}
}

// Close ends all that goes on, and leaves no goroutine.
func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	a, u := serve(t, "tcp", "127.0.0.1", "a"), serve(t, "udp", "127.0.0.1", "a")
	f := New()
	tcp, udp := free(t, "tcp", "127.0.0.1"), free(t, "udp", "127.0.0.1")
	set(t, f, tcp, 0, a)
	set(t, f, udp, 0, u)
	open, datagrams := dial(t, tcp), dial(t, udp)
	defer open.Close()
	defer datagrams.Close()
	for _, conn := range []net.Conn{open, datagrams} {
		if who := ask(conn, "hello"); who != "a" {
			t.Fatalf("%s answered, want a", who)
		}
	}
	f.Delete(tcp)
	f.Close()
	if who := ask(open, "hello"); who != "nobody" {
		t.Errorf("%s answered, want nobody", who)
	}
	_ = a.Close()
	_ = u.Close()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// TestAffinityEnds: a pin lasts until nobody has connected for its time.
func TestAffinityEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b balancer
		list := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")}
		b.set(list, time.Minute)
		for i, step := range []struct {
			wait time.Duration
			want int
		}{{0, 0}, {time.Minute, 0}, {time.Minute, 0}, {time.Minute + 1, 1}, {time.Second, 1}} {
			time.Sleep(step.wait)
			if got := b.order()[0]; got != list[step.want] {
				t.Errorf("step %d: %s, want %s", i, got, list[step.want])
			}
		}
	})
}
