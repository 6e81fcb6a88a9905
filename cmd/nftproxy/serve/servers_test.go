// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/proxier/health"
	"github.com/nftproxy/nftproxy/rules"
)

// TestServersAreBounded: at each address that run listens at, long headers are refused, and whoever holds more
// connections than it has keeps nobody out.
func TestServersAreBounded(t *testing.T) {
	free := func() string { // none that the kernel gives to other tests' connections meanwhile
		for {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.N(20000)))
			if err == nil {
				defer l.Close()
				return l.Addr().String()
			}
		}
	}
	healthz, metrics, probes := free(), free(), free()
	alive := health.NewProxy(time.Minute)
	s, err := Start(klog.Background(), Addresses{Health: healthz, Metrics: metrics, Probes: probes, HardFail: true},
		Handlers{alive.Handler(), pages(t).Handler(), alive.ProbeHandler()}, func(string, string) {})
	must(t, err)
	defer s.Close()
	for _, row := range []struct {
		at, path string
		most     int
	}{{healthz, "/livez", healthConnections}, {metrics, "/healthz", metricsConnections}, {probes, "/livez", probeConnections}} {
		request, err := http.NewRequest(http.MethodGet, "http://"+row.at+row.path, nil)
		must(t, err)
		ask := func(want int) {
			t.Helper()
			r, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Errorf("%s%s: %v", row.at, row.path, err)
				return
			}
			_ = r.Body.Close()
			if r.StatusCode != want {
				t.Errorf("%s%s: %s, want %d", row.at, row.path, r.Status, want)
			}
		}
		var first net.Conn
		for i := range row.most + 10 {
			c, err := net.Dial("tcp", row.at)
			must(t, err)
			defer c.Close()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
			if i == 0 {
				first = c
			}
		}
		ask(http.StatusOK)
		must(t, first.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, err := first.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the first of too many connections has not ended: %v", row.at, err)
		}
		request.Header.Set("X", strings.Repeat("x", 20<<10))
		ask(http.StatusRequestHeaderFieldsTooLarge)
	}
}

// TestHardFail ends when an address is taken, and without it waits for the address.
func TestHardFail(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	taken := l.Addr().String()
	for reason, at := range map[string]Addresses{"FailedToStartProxierHealthcheck": {Health: taken}, "FailedToStartMetricServer": {Metrics: taken},
		"FailedToStartProbes": {Probes: taken}} {
		var events []string
		serve := func(hardFail bool) (*Servers, error) {
			at.HardFail = hardFail
			return Start(klog.Background(), at, Handlers{}, func(reason, _ string) { events = append(events, reason) })
		}
		if _, err := serve(true); err == nil || !strings.Contains(err.Error(), "address already in use") || !slices.Equal(events, []string{reason}) {
			t.Errorf("%+v: %v, events %q; want an error and %s", at, err, events, reason)
		}
		s, err := serve(false)
		must(t, err)
		s.Close()
	}
	must(t, l.Close())
	for range 50 { // an address is free as soon as its servers are closed, whatever they were about to do
		s, err := Start(klog.Background(), Addresses{Metrics: taken, HardFail: true}, Handlers{}, func(string, string) {})
		must(t, err)
		s.Close()
	}
}

// TestAddressTaken: an address that somebody else has is served as soon as it is free.
func TestAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	at := l.Addr().String()
	s, err := Start(klog.Background(), Addresses{Health: at}, Handlers{Health: http.NotFoundHandler()}, func(string, string) { t.Error("an Event") })
	must(t, err)
	defer s.Close()
	must(t, l.Close())
	s.again.Close() // what it does meanwhile is its own
	s.again = nil
	s.retry()
	if len(s.waiting) > 0 {
		t.Errorf("%v wait still", s.waiting)
	}
	r, err := http.Get("http://" + at)
	must(t, err)
	_ = r.Body.Close()
	if r.StatusCode != http.StatusNotFound {
		t.Errorf("answered is %s", r.Status)
	}
}

// TestServersOfFamilies: an address that stands for all of a family that the node does not have stands for the other's.
func TestServersOfFamilies(t *testing.T) {
	for address, want := range map[string][2]string{ // without IPv4, without IPv6
		"0.0.0.0:1":   {"[::]:1", "0.0.0.0:1"},
		"[::]:1":      {"[::]:1", "0.0.0.0:1"},
		"127.0.0.1:1": {"[::1]:1", "127.0.0.1:1"},
		"[::1]:1":     {"[::1]:1", "127.0.0.1:1"},
		"[fd00::1]:1": {"[fd00::1]:1", "[fd00::1]:1"},
		"10.0.0.1:1":  {"10.0.0.1:1", "10.0.0.1:1"},
	} {
		for _, f := range rules.Families {
			var missing [2]bool
			missing[f] = true
			a := Addresses{Health: address, Metrics: address, Probes: address}.Without(missing)
			for _, got := range []string{a.Health, a.Metrics, a.Probes} {
				if got != want[f] {
					t.Errorf("%s without %v: %s, want %s", address, f, got, want[f])
				}
			}
		}
	}
}
