// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/proxier/bounded"
)

// TestServicesShareConnections: the ports of all Services together have a bounded number of connections, and whoever
// holds many keeps no load balancer out.
func TestServicesShareConnections(t *testing.T) {
	const most, services = 8, 10
	h := New(Config{Pool: bounded.NewPool(most), OnError: func(s Service, at netip.AddrPort, err error) { t.Errorf("%v at %s: %v", s, at, err) }})
	defer h.Close()
	h.SetAddresses(loopbacks())
	var ports []uint16
	for i := range services {
		ports = append(ports, freePort(t))
		h.SetService("shop", fmt.Sprint("web", i), ports[i], [2]int{1, 0})
	}
	var held []net.Conn
	for i := range 5 * most {
		c, err := net.Dial("tcp", netip.AddrPortFrom(loopbacks()[i%2], ports[i%services]).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
		held = append(held, c)
		if got := get(t, loopbacks()[0], ports[i%services]); !strings.HasPrefix(got, "200") {
			t.Errorf("beside %d connections: %s", len(held), got)
		}
	}
	if open := stillOpen(held, most); open > most {
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

// TestServicesLongHeaders: a header that is too long is refused.
func TestServicesLongHeaders(t *testing.T) {
	h := New(Config{})
	defer h.Close()
	h.SetAddresses(loopbacks())
	port := freePort(t)
	h.SetService("shop", "web", port, [2]int{1, 0})
	request, err := http.NewRequest(http.MethodGet, "http://"+netip.AddrPortFrom(loopbacks()[0], port).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X", strings.Repeat("x", 20<<10))
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 20 kB: %s", r.Status)
	}
}

// TestServicesPortPasses: a port that several Services have is the next one's as soon as the first gives it up.
func TestServicesPortPasses(t *testing.T) {
	var errs []string
	h := New(Config{OnError: func(s Service, at netip.AddrPort, err error) { errs = append(errs, s.Name) }})
	defer h.Close()
	h.SetAddresses(loopbacks()[:1])
	for _, step := range []func(port uint16){
		func(uint16) { h.DeleteService("shop", "a") },
		func(uint16) { h.SetService("shop", "a", freePort(t), [2]int{1, 0}) },
	} {
		errs = nil
		port := freePort(t)
		h.SetService("shop", "a", port, [2]int{1, 0})
		h.SetService("shop", "web", port, [2]int{2, 0})
		if len(errs) != 1 || errs[0] != "web" {
			t.Errorf("errors about %v, want one about the second", errs)
		}
		step(port)
		if got := get(t, loopbacks()[0], port); got != answered(200, 2, true) {
			t.Errorf("when the first has gone: %s", got)
		}
		h.DeleteService("shop", "web")
	}
}

// TestServicesMaxListeners: Services have a share of the process's descriptors.
func TestServicesMaxListeners(t *testing.T) {
	var errs []error
	h := New(Config{MaxListeners: 2, OnError: func(_ Service, _ netip.AddrPort, err error) { errs = append(errs, err) }})
	defer h.Close()
	h.SetAddresses(loopbacks())
	a, b := freePort(t), freePort(t)
	h.SetService("shop", "a", a, [2]int{1, 0})
	h.SetService("shop", "b", b, [2]int{1, 0})
	if len(errs) != 2 || !strings.Contains(errs[0].Error(), "raise the limit of open files") {
		t.Errorf("errors %v, want one for each address", errs)
	}
	h.DeleteService("shop", "a")
	h.mu.Lock()
	h.listen(Service{"shop", "b"}, h.services[Service{"shop", "b"}]) // what retry does after a while
	h.mu.Unlock()
	for _, at := range loopbacks() {
		if got := get(t, at, b); !strings.HasPrefix(got, "200") {
			t.Errorf("when there is room: %s", got)
		}
	}
}
