// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/proxier/health"
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
	o := flagOptions(t, "--healthz-bind-address="+healthz, "--metrics-bind-address="+metrics, "--probe-bind-address="+probes, "--bind-address-hard-fail")
	s, err := o.serve(klog.Background(), func(string, string) {}, health.NewProxy(time.Minute))
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
		must(t, first.SetReadDeadline(time.Now().Add(3*time.Second)))
		if _, err := first.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the first of too many connections has not ended: %v", row.at, err)
		}
		request.Header.Set("X", strings.Repeat("x", 20<<10))
		ask(http.StatusRequestHeaderFieldsTooLarge)
	}
}
