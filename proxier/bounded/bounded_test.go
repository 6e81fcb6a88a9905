// SPDX-License-Identifier: Apache-2.0

package bounded

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// conn is a connection from an address, which notes that it was closed.
type conn struct {
	net.Conn
	from   string
	closed bool
}

func (c *conn) RemoteAddr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", c.from)
	return a
}

func (c *conn) Close() error {
	c.closed = true
	return nil
}

// TestPool: a new connection takes the place of the peer's that has most.
func TestPool(t *testing.T) {
	const many = "10.0.0.66:1"
	for _, tt := range []struct {
		name   string
		have   []string // peers, oldest first; with a *: it is being answered
		moved  []int    // which have been of use since, in that order
		new    string
		victim int
	}{
		{"room", []string{many, many, many}, nil, many, -1},
		{"the oldest", []string{many, many, many, many}, nil, many, 0},
		{"of whoever has most", []string{"10.0.0.1:1", many, many, "10.0.0.2:1"}, nil, "10.0.0.3:1", 1},
		{"he who comes counts", []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", many}, nil, many, 3},
		{"without progress", []string{many, many, many, many}, []int{0, 1}, many, 2},
		{"not being answered", []string{many + "*", many + "*", many, many}, nil, "10.0.0.1:1", 2},
		{"all are", []string{many + "*", many + "*", many + "*", many + "*"}, nil, "10.0.0.1:1", 0},
		{"a network of IPv6 is one peer", []string{"10.0.0.1:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "10.0.0.2:1"}, nil, "10.0.0.3:1", 1},
		{"IPv4 in either form", []string{"10.0.0.1:1", "10.0.0.66:1", "[::ffff:10.0.0.66]:1", "10.0.0.2:1"}, nil, "10.0.0.3:1", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := NewPool(4)
			var all []*conn
			var held []*Conn
			evicted := -1
			for i, from := range tt.have {
				peer, busy := strings.CutSuffix(from, "*")
				c := &conn{from: peer}
				all = append(all, c)
				h := p.Add(c, func() { evicted = i })
				held = append(held, h)
				if busy {
					h.progress(true)
				}
			}
			for _, i := range tt.moved {
				held[i].Progress()
			}
			p.Add(&conn{from: tt.new}, nil)
			for i, c := range all {
				if c.closed != (i == tt.victim) {
					t.Errorf("connection %d is closed: %v", i, c.closed)
				}
			}
			if evicted != tt.victim || p.conns.Len() != 4 {
				t.Errorf("told of %d, want %d; %d are held, want 4", evicted, tt.victim, p.conns.Len())
			}
			for _, h := range held {
				_ = h.Close()
				_ = h.Close() // twice is fine
			}
			if p.conns.Len() != 1 || len(p.peers) != 1 {
				t.Errorf("after all were closed: %d held, of %d peers, want the new one", p.conns.Len(), len(p.peers))
			}
		})
	}
}

func TestShare(t *testing.T) {
	for _, tt := range []struct{ like, limit, want int }{{128, 1 << 20, 128}, {128, 10240, 128}, {128, 1024, 12}, {64, 256, 4}, {1024, 1024, 102}} {
		if got := share(tt.like, tt.limit); got != tt.want {
			t.Errorf("%d of %d descriptors: %d, want %d", tt.like, tt.limit, got, tt.want)
		}
	}
}

// serve serves on a loopback address until the test ends.
func serve(t *testing.T, most int, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewPool(most).Server(h)
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = s.Close()
		done.Wait()
	})
	return l.Addr().String()
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// held returns the memory that is held, garbage left out.
func held() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestEndlessHeaders: 200 clients that send headers without end, and others that send nothing, hold little
// memory, and a probe is answered meanwhile.
func TestEndlessHeaders(t *testing.T) {
	const clients, sent, mostMemory = 200, 512 << 10, 20 << 20
	at := serve(t, 128, http.HandlerFunc(ok))
	before := held()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	line := []byte("X-Header: " + strings.Repeat("a", 1000) + "\r\n")
	for i := range clients {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if i%4 == 3 {
			continue // it says nothing
		}
		if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: h\r\n")); err != nil {
			continue // its place was another's
		}
		for n := 0; n < sent; n += len(line) {
			_ = c.SetWriteDeadline(time.Now().Add(20 * time.Second))
			if _, err := c.Write(line); err != nil {
				break
			}
		}
	}
	r, err := http.Get("http://" + at + "/healthz")
	if err != nil {
		t.Fatalf("nobody answers a probe: %v", err)
	}
	_ = r.Body.Close()
	if more := held() - before; more > mostMemory {
		t.Errorf("the clients hold %d kB, want at most %d", more>>10, mostMemory>>10)
	}
}

// TestHeldConnections: whoever holds more connections than fit keeps nobody else out.
func TestHeldConnections(t *testing.T) {
	const most = 10
	at := serve(t, most, http.HandlerFunc(ok))
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range 5 * most {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if _, err = io.WriteString(c, "GET / HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.Get("http://" + at)
		if err != nil {
			t.Fatalf("beside %d connections: %v", len(conns), err)
		}
		_ = r.Body.Close()
	}
	if open := stillOpen(conns, most); open > most {
		t.Errorf("%d connections are open, want at most %d", open, most)
	}
}

// stillOpen waits until at most so many connections are open, and returns how many are. A new connection is open before its
// server has seen it, which may be busy.
func stillOpen(conns []net.Conn, most int) (open int) {
	for end := time.Now().Add(time.Minute); ; {
		open = 0
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				open++
			}
		}
		if open <= most || time.Now().After(end) {
			return open
		}
	}
}

// TestTimes: connections end that are idle, or whose request never does; what a client asks to take long may.
func TestTimes(t *testing.T) {
	for _, tt := range []struct {
		name, say string
		after     time.Duration
	}{
		{"nothing is said", "", headerTimeout},
		{"half a header", "GET / HTTP/1.1\r\nHost:", headerTimeout},
		{"no body comes", "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n", readTimeout},
		{"idle", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", idleTimeout},
		{"long", "GET /long HTTP/1.1\r\nHost: h\r\n\r\n", 5*time.Minute + idleTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mux := http.NewServeMux()
				mux.HandleFunc("/", ok)
				mux.HandleFunc("/read", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) })
				mux.Handle("/long", Unhurried(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					select {
					case <-time.After(5 * time.Minute):
						fmt.Fprint(w, "long")
					case <-r.Context().Done():
						t.Error("the request was cancelled")
					}
				})))
				client, server := net.Pipe()
				l := &oneConn{conns: make(chan net.Conn, 1)}
				l.conns <- server
				s := NewPool(1).Server(mux)
				go func() { _ = s.Serve(l) }()
				defer s.Close()
				start := time.Now()
				go func() { _, _ = io.WriteString(client, tt.say) }()
				_, err := io.Copy(io.Discard, bufio.NewReader(client))
				if took := time.Since(start); err != nil || took < tt.after || took > tt.after+time.Second {
					t.Errorf("it ended after %v (%v), want %v", took, err, tt.after)
				}
			})
		})
	}
}

// oneConn is a listener of what it is given.
type oneConn struct{ conns chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	c, open := <-l.conns
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *oneConn) Close() error {
	close(l.conns)
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
