// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const watchPatience = 2 * time.Minute // for all events of a test

// watcher reads events.
type watcher struct {
	t     *testing.T
	lines *bufio.Reader
	id    string
}

// watch begins to watch, after an event.
func watch(t *testing.T, c *Client, after string) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), watchPatience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nftproxy/v1/watch?after="+url.QueryEscape(after), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := Transport(c.path).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || kind != "text/event-stream" {
		text, _ := io.ReadAll(answer.Body)
		t.Fatalf("%d %s: %s", answer.StatusCode, kind, text)
	}
	return &watcher{t, bufio.NewReader(answer.Body), ""}
}

// next returns the next event.
func (w *watcher) next() (c Change) {
	w.t.Helper()
	for {
		line, err := w.lines.ReadString('\n')
		if err != nil {
			w.t.Fatal(err)
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			w.id = strings.TrimSpace(id)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				w.t.Fatalf("%v in %s", err, data)
			}
			return c
		}
	}
}

// service is one that is changed by its port.
func service(name string, i, port int) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: netip.AddrFrom4([4]byte{10, 97, byte(i >> 8), byte(i)}).String(), Ports: []corev1.ServicePort{{Port: int32(port)}}}}
}

// until reads events until one has brought all Services, and returns how many events that took.
func (w *watcher) until(names ...string) (events int) {
	w.t.Helper()
	for len(names) > 0 {
		c := w.next()
		events++
		if c.All {
			return events
		}
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(c.Services, "default/"+n) })
	}
	return events
}

// TestWatch: the first event says where the transactions are, the others what has changed since, and one who comes again goes on.
func TestWatch(t *testing.T) {
	d := daemon(t, 5)
	c := served(t, d)
	w := watch(t, c, "")
	first := w.next()
	if !first.All || first.Last == 0 || len(first.Transactions)+len(first.Services) > 0 {
		t.Fatalf("first: %+v", first)
	}
	d.Proxier.UpdateService(service("new", 1, 80))
	second := w.next()
	if second.All || second.Last != first.Last+1 || !slices.Equal(second.Services, []string{"default/new"}) || len(second.Transactions) != 1 || second.Transactions[0].Number != second.Last {
		t.Errorf("second: %+v", second)
	}
	between := w.id
	d.Proxier.UpdateService(service("new", 1, 81))
	third := w.next()
	again := watch(t, c, between)
	if got := again.next(); got.All || got.Last != third.Last || !slices.Equal(got.Services, third.Services) || got.Missed != 0 {
		t.Errorf("who comes again is told %+v, and who stayed %+v", got, third)
	}
	if got := watch(t, c, "other-1").next(); !got.All {
		t.Errorf("with another nftproxy's event: %+v", got)
	}
	start, _, _ := strings.Cut(w.id, "-")
	if got := watch(t, c, start+"-99999").next(); !got.All {
		t.Errorf("with an event that is still to come: %+v", got)
	}
}

// TestWatchMuch: many changes are few events, each of them bounded.
func TestWatchMuch(t *testing.T) {
	d := daemon(t, 5)
	w := watch(t, served(t, d), "")
	w.next()
	const n = 3 * eventNames
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("n%d", i))
		d.Proxier.UpdateService(service(names[i], i, 80))
	}
	if events := w.until(names...); events > n/4 {
		t.Errorf("%d changes are %d events", n, events)
	}
}

// TestWatchers: so many may watch, the next is told so, and a bad position is refused.
func TestWatchers(t *testing.T) {
	c := served(t, daemon(t, 2))
	for range mostWatches {
		watch(t, c, "").next()
	}
	for after, want := range map[string]int{"": http.StatusServiceUnavailable, "x": http.StatusBadRequest, "x-y": http.StatusBadRequest} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://nftproxy/v1/watch?after="+after, nil)
		answer, err := Transport(c.path).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("after=%s: %d, want %d", after, answer.StatusCode, want)
		}
	}
	if _, err := c.Version(t.Context()); err != nil {
		t.Errorf("beside them: %v", err)
	}
}

// TestWatchSlow: who does not read holds up neither programming nor others, and nothing is kept for him.
func TestWatchSlow(t *testing.T) {
	d := daemon(t, 5)
	c := served(t, d)
	slow, err := net.Dial("unix", c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := io.WriteString(slow, "GET /v1/watch HTTP/1.1\r\nHost: n\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	w := watch(t, c, "")
	w.next()
	for i := range 200 {
		d.Proxier.UpdateService(service("m", i, 80))
		if i%20 == 0 {
			w.until("m")
		}
	}
	d.Proxier.UpdateService(service("last", 9999, 80))
	w.until("last")
}

// TestRulesAndNode: what a Service has in the tables, and what is known of the node.
func TestRulesAndNode(t *testing.T) {
	d := daemon(t, 5)
	c := served(t, d)
	var r Rules
	if err := c.get(t.Context(), "/v1/rules/default/s1", nil, &r); err != nil || r.More != 0 {
		t.Fatal(err, r.More)
	}
	for _, want := range []string{"table ip nftproxy {", "chain service/default/s1/http {", "10.96.0.1 . tcp . 80 : goto service/default/s1/http", "10.10.0.1 . 8080"} {
		if !strings.Contains(r.Text, want) {
			t.Errorf("no %q in\n%s", want, r.Text)
		}
	}
	if strings.Contains(r.Text, "s2") || strings.Contains(r.Text, "hook") {
		t.Errorf("others' rules:\n%s", r.Text)
	}
	if err := c.get(t.Context(), "/v1/rules/default/none", nil, &r); err == nil {
		t.Error("a Service that is not there has rules")
	}
	var n Node
	if err := c.get(t.Context(), "/v1/node", nil, &n); err != nil || n.Name != "here" || !n.Healthy || n.Services != 6 || n.NodePortAddresses == nil || time.Since(n.Now) > time.Minute {
		t.Errorf("%+v (%v)", n, err)
	}
	d.Healthy = func() bool { return false }
	if err := c.get(t.Context(), "/v1/node", nil, &n); err != nil || n.Healthy {
		t.Errorf("%+v (%v)", n, err)
	}
}
