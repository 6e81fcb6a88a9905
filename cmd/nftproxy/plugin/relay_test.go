// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relays runs relays to a server, and counts them.
type relays struct {
	at           string
	begun, ended atomic.Int32
	greeting     string
}

func (r *relays) run(ctx context.Context, s Streams) (int, error) {
	r.begun.Add(1)
	defer r.ended.Add(1)
	if r.at == "" {
		fmt.Fprintln(s.Err, "nftproxy: no nftproxy\x1b[2J answers here")
		return 2, nil
	}
	conn, err := net.Dial("tcp", r.at)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := fmt.Fprintln(s.Out, r.greeting); err != nil {
		return 0, err
	}
	go func() {
		_, _ = io.Copy(conn, s.In)
		_ = conn.Close()
	}()
	_, _ = io.Copy(s.Out, conn)
	return 0, nil
}

// TestTransport: questions one after the other take one relay, a stream has its own, and each ends when it is not wanted any more.
func TestTransport(t *testing.T) {
	streaming := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/watch" {
			fmt.Fprintf(w, "%s %s", r.Host, r.URL.RequestURI())
			return
		}
		for i := 0; r.Context().Err() == nil; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if http.NewResponseController(w).Flush() != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		close(streaming)
	}))
	defer server.Close()
	r := &relays{at: server.Listener.Addr().String(), greeting: RelayReady}
	transport := Transport(r.run)
	ask := func(ctx context.Context, path string) (*http.Response, error) {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nftproxy"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return transport.RoundTrip(q)
	}
	read := func(path string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it ends before the relay does
		defer cancel()
		answer, err := ask(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "nftproxy "+path {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	for i := range 20 {
		read(fmt.Sprintf("/v1/services?limit=%d", i))
	}
	if n := r.begun.Load(); n > 2 { // the one before may just be on its way back
		t.Errorf("%d relays for questions that came one after the other", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answer, err := ask(ctx, "/v1/watch")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(answer.Body)
	for range 10 {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
	}
	read("/v1/version") // beside it
	cancel()
	_ = answer.Body.Close()
	select {
	case <-streaming:
	case <-time.After(20 * time.Second):
		t.Error("the stream goes on")
	}
	transport.(*http.Transport).CloseIdleConnections()
	for deadline := time.Now().Add(20 * time.Second); r.ended.Load() != r.begun.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("of %d relays %d have ended", r.begun.Load(), r.ended.Load())
		}
	}
}

// TestRelayFails: who cannot be reached says why, and nothing of it controls a terminal.
func TestRelayFails(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	at := server.Listener.Addr().String()
	for _, tt := range []struct {
		name string
		run  func(context.Context, Streams) (int, error)
		want string
	}{
		{"nobody there", (&relays{}).run, `no nftproxy\x1b[2J answers here`},
		{"not allowed", func(context.Context, Streams) (int, error) { return 0, errors.New("pods/exec is forbidden") }, "pods/exec is forbidden"},
		{"it says nothing", func(context.Context, Streams) (int, error) { return 3, nil }, "the relay ends with code 3"},
		{"it ends at once", func(context.Context, Streams) (int, error) { return 0, nil }, "EOF"},
		{"another program", (&relays{at: at, greeting: "root@node:~#\x1b[2J"}).run, `it is no relay: it says "root@node:~#\x1b[2J"`},
		{"a longer line than a greeting is", func(_ context.Context, s Streams) (int, error) {
			_, err := io.WriteString(s.Out, strings.Repeat("x", 10*longestGreeting)+"\n")
			return 0, err
		}, "it is no relay"},
	} {
		q := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://nftproxy/v1/version", nil)
		q.RequestURI = ""
		answer, err := Transport(tt.run).RoundTrip(q)
		if err == nil {
			_ = answer.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	// One that is not ready in time is ended.
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := dial(ctx, func(ctx context.Context, _ Streams) (int, error) {
			close(begun)
			<-ctx.Done()
			return 0, ctx.Err()
		})
		ended <- err
	}()
	<-begun
	cancel()
	if err := <-ended; err == nil {
		t.Error("a relay that says nothing is ready")
	}
}

// TestFollow: lines of several nodes come whole, with the nodes' names, and what does not end is cut.
func TestFollow(t *testing.T) {
	pods := []Pod{{Node: "a"}, {Node: "long\x1b"}, {Node: "c"}}
	var all sync.WaitGroup
	all.Add(len(pods)) // all run at the same time
	run := func(_ context.Context, p Pod, out, errs io.Writer) (int, error) {
		all.Done()
		all.Wait()
		if p.Node == "c" {
			fmt.Fprintln(errs, "nftproxy: no such flag")
			return 2, nil
		}
		for i := range 100 {
			for _, part := range []string{`{"n":`, fmt.Sprint(i), "}\n"} {
				if _, err := io.WriteString(out, part); err != nil {
					return 0, err
				}
			}
		}
		fmt.Fprint(out, "no JSON \x1b[2J")
		return 0, nil
	}
	var b strings.Builder
	answers := Follow(t.Context(), &b, pods, false, run)
	if answers[2].Code != 2 || answers[2].Errors != "no such flag" || Code(answers) != 2 {
		t.Errorf("%+v", answers)
	}
	counts := map[string]int{}
	for line := range strings.Lines(b.String()) {
		node, rest, _ := strings.Cut(line, " ")
		counts[node]++
		if want := fmt.Sprintf(`{"n":%d}`, counts[node]-1); strings.TrimSpace(rest) != want && strings.TrimSpace(rest) != `no JSON \x1b[2J` {
			t.Errorf("%q, want %q", line, want)
		}
	}
	if counts["a"] != 101 || counts[`long\x1b`] != 101 || len(counts) != 2 {
		t.Errorf("lines: %v", counts)
	}
	all.Add(len(pods))
	b.Reset()
	Follow(t.Context(), &b, pods, true, run)
	if !strings.Contains(b.String(), `{"node":"a","answer":{"n":0}}`+"\n") {
		t.Errorf("as JSON:\n%.300s", &b)
	}
	b.Reset()
	l := &lines{to: &together{w: &b}, node: "a"}
	if _, err := l.Write([]byte(strings.Repeat("x", 3*LongestLine))); err != nil || len(l.rest) > LongestLine || strings.Count(b.String(), "\n") == 0 {
		t.Errorf("%v; %d bytes wait, %d lines are written", err, len(l.rest), strings.Count(b.String(), "\n"))
	}
}
