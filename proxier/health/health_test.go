// SPDX-License-Identifier: Apache-2.0

package health

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func loopbacks() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
}

// handed are the ports that freePort has tried.
var handed sync.Map

// freePort returns a port that nobody listens on, on either loopback address. It is none that the kernel gives to
// other tests' connections meanwhile, and another one each time.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.N(uint16(20000))
		l4, err4 := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		l6, err6 := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port))
		for _, l := range []net.Listener{l4, l6} {
			if l != nil {
				_ = l.Close()
			}
		}
		if _, before := handed.LoadOrStore(port, true); !before && err4 == nil && err6 == nil {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// get asks at a port and returns the answer as one line.
func get(t *testing.T, a netip.Addr, port uint16) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	r, err := client.Get("http://" + netip.AddrPortFrom(a, port).String() + "/anything")
	if err != nil {
		return "nobody"
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s %s %s %s", r.StatusCode, r.Header.Get("Content-Type"), r.Header.Get("X-Content-Type-Options"),
		r.Header.Get("X-Load-Balancing-Endpoint-Weight"), strings.Join(strings.Fields(string(body)), " "))
}

func answered(code, endpoints int, healthy bool) string {
	return fmt.Sprintf(`%d application/json nosniff %d { "service": { "namespace": "shop", "name": "web" }, "localEndpoints": %d, "serviceProxyHealthy": %v }`,
		code, endpoints, endpoints, healthy)
}

func TestServices(t *testing.T) {
	var unwell atomic.Bool
	h := New(Config{Healthy: func() bool { return !unwell.Load() }, OnError: func(s Service, at netip.AddrPort, err error) { t.Errorf("%v at %s: %v", s, at, err) }})
	defer h.Close()
	port, other := freePort(t), freePort(t)
	h.SetAddresses(loopbacks())
	for _, step := range []struct {
		name   string
		change func()
		port   uint16
		v4, v6 string
	}{
		{"not there", func() {}, port, "nobody", "nobody"},
		{"endpoints", func() { h.SetService("shop", "web", port, [2]int{2, 1}) }, port, answered(200, 2, true), answered(200, 2, true)},
		{"none of IPv6", func() { h.SetService("shop", "web", port, [2]int{1, 0}) }, port, answered(200, 1, true), answered(200, 1, true)},
		{"none of IPv4", func() { h.SetService("shop", "web", port, [2]int{0, 2}) }, port, answered(200, 2, true), answered(200, 2, true)},
		{"none", func() { h.SetService("shop", "web", port, [2]int{}) }, port, answered(503, 0, true), answered(503, 0, true)},
		{"nftproxy is not well", func() { unwell.Store(true); h.SetService("shop", "web", port, [2]int{1, 0}) }, port, answered(503, 1, false), answered(503, 1, false)},
		{"IPv6 only", func() { unwell.Store(false); h.SetAddresses(loopbacks()[1:]) }, port, "nobody", answered(200, 1, true)},
		{"both again", func() { h.SetAddresses(loopbacks()) }, port, answered(200, 1, true), answered(200, 1, true)},
		{"another port", func() { h.SetService("shop", "web", other, [2]int{1, 1}) }, other, answered(200, 1, true), answered(200, 1, true)},
		{"not at the old one", func() {}, port, "nobody", "nobody"},
		{"gone", func() { h.DeleteService("shop", "web") }, other, "nobody", "nobody"},
	} {
		step.change()
		if got := get(t, loopbacks()[0], step.port); got != step.v4 {
			t.Errorf("%s, IPv4: %s, want %s", step.name, got, step.v4)
		}
		if got := get(t, loopbacks()[1], step.port); got != step.v6 {
			t.Errorf("%s, IPv6: %s, want %s", step.name, got, step.v6)
		}
	}
}

// A port that is taken is told of once, costs nobody else anything, and is taken over
// when it is free.
func TestServicesPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).AddrPort().Port()
	var errs []string
	h := New(Config{OnError: func(s Service, at netip.AddrPort, err error) { errs = append(errs, fmt.Sprint(s, at, err)) }})
	defer h.Close()
	h.SetAddresses(loopbacks()[:1])
	h.SetService("shop", "web", port, [2]int{1, 1})
	h.SetService("shop", "web", port, [2]int{2, 1})
	if len(errs) != 1 || !strings.Contains(errs[0], "{shop web} 127.0.0.1:") || !strings.Contains(errs[0], "address already in use") {
		t.Errorf("errors %q, want one that names the service, the address and the reason", errs)
	}
	good := freePort(t)
	h.SetService("shop", "other", good, [2]int{1, 1})
	if got := get(t, loopbacks()[0], good); !strings.HasPrefix(got, "200") {
		t.Errorf("another service: %s", got)
	}
	_ = taken.Close()
	h.mu.Lock()
	h.listen(Service{"shop", "web"}, h.services[Service{"shop", "web"}]) // what retry does after a while
	h.mu.Unlock()
	if got := get(t, loopbacks()[0], port); got != answered(200, 2, true) {
		t.Errorf("when the port is free: %s", got)
	}
}

// TestProxy asks /healthz, /livez and /readyz while time goes by.
func TestProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewProxy(time.Minute)
		for i, step := range []struct {
			name                   string
			change                 func()
			healthz, livez, readyz int
			updated, healthy       bool // lastUpdated is now; status
		}{
			{"starting", func() {}, 503, 200, 503, false, true},
			{"waiting for what must be known", func() { p.Queued(); time.Sleep(time.Hour) }, 503, 200, 503, false, true},
			{"tried", func() { p.Began(); time.Sleep(59 * time.Second) }, 503, 200, 503, false, true},
			{"tried long ago", func() { time.Sleep(time.Second) }, 503, 503, 503, false, false},
			{"programmed", func() { p.Updated(); time.Sleep(time.Hour) }, 200, 200, 200, true, true},
			{"queued", func() { p.Queued(); time.Sleep(59 * time.Second) }, 200, 200, 200, true, true},
			{"late", func() { p.Queued(); time.Sleep(time.Second) }, 503, 503, 503, false, false},
			{"programmed again", func() { p.Updated() }, 200, 200, 200, true, true},
			{"the node is to be deleted", func() { p.SetNodeEligible(false); time.Sleep(time.Second) }, 503, 200, 200, false, true},
			{"it stays", func() { p.SetNodeEligible(true) }, 200, 200, 200, true, true},
		} {
			step.change()
			for path, code := range map[string]int{"/healthz": step.healthz, "/livez": step.livez, "/readyz": step.readyz} {
				handlers := []http.Handler{p.Handler(), p.ProbeHandler()}
				switch path {
				case "/healthz":
					handlers = handlers[:1]
				case "/readyz":
					handlers = handlers[1:]
				}
				for _, h := range handlers {
					got, s := ask(t, h, path)
					unserved := i < 4 && path == "/healthz" // no rules yet
					healthy := step.healthy && !unserved && (path != "/readyz" || code == http.StatusOK)
					if got != code || s.Healthy != healthy || (s.NodeEligible != nil) != (path == "/healthz") {
						t.Errorf("%s: %s: %d %+v, want %d, healthy %v", step.name, path, got, s, code, healthy)
					}
					if now := s.LastUpdated.Equal(time.Now()); path == "/healthz" && now != step.updated {
						t.Errorf("%s: lastUpdated is %v at %v", step.name, s.LastUpdated, time.Now())
					}
				}
			}
			if p.Healthy() != step.healthy {
				t.Errorf("%s: Healthy is %v", step.name, p.Healthy())
			}
		}
	})
}

// TestProxyFound: where rules of a former run are in force nothing changes while nftproxy starts again.
func TestProxyFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewProxy(time.Minute)
		p.Found()
		for _, step := range []struct {
			name           string
			change         func()
			healthz, livez int
		}{
			{"starting", func() {}, 200, 200},
			{"waiting for what must be known", func() { p.Queued(); time.Sleep(time.Hour) }, 200, 200},
			{"tried", func() { p.Began(); time.Sleep(59 * time.Second) }, 200, 200},
			{"tried long ago", func() { time.Sleep(time.Second) }, 503, 503},
			{"adopted", func() { p.Updated() }, 200, 200},
			{"the node is to be deleted", func() { p.SetNodeEligible(false) }, 503, 200},
		} {
			step.change()
			for path, want := range map[string]int{"/healthz": step.healthz, "/livez": step.livez} {
				if got, s := ask(t, p.Handler(), path); got != want {
					t.Errorf("%s: %s: %d %+v, want %d", step.name, path, got, s, want)
				}
			}
			if got, _ := ask(t, p.ProbeHandler(), "/readyz"); (got == 200) != (step.name == "adopted" || step.healthz != step.livez) {
				t.Errorf("%s: /readyz: %d", step.name, got)
			}
		}
	})
}

// TestProxyPaths: each handler has its own paths and no other. kube-proxy's port has no
// /readyz.
func TestProxyPaths(t *testing.T) {
	p := NewProxy(time.Minute)
	for _, tt := range []struct {
		handler http.Handler
		path    string
	}{{p.Handler(), "/readyz"}, {p.ProbeHandler(), "/healthz"}, {p.ProbeHandler(), "/"}} {
		w := httptest.NewRecorder()
		tt.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, tt.path, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", tt.path, w.Code)
		}
	}
}

// ask returns the status code and the body of an answer.
func ask(t *testing.T, h http.Handler, path string) (int, state) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	var s state
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatalf("%s: %d %s: %v", path, w.Code, w.Body, err)
	}
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: headers %v", path, w.Header())
	}
	return w.Code, s
}
