// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// output is what a command writes, while it does.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// wait waits until it has what matches a pattern, and returns that.
func (o *output) wait(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if found := re.FindString(o.String()); found != "" {
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing matches %q in %q", pattern, o.String())
		}
	}
}

// goingOn starts a command of the plugin, which end ends as Ctrl-C does.
func (s *podServer) goingOn(args ...string) (out, errs *output, end func() (code int)) {
	ctx, cancel := context.WithCancel(s.t.Context())
	out, errs = &output{}, &output{}
	code := make(chan int, 1)
	root := rootCommand("v1.2.3", nil)
	asPlugin(root)
	kubeconfig := s.kubeconfig()
	go func() {
		code <- execute(ctx, root, append(args, "--kubeconfig", kubeconfig, "--context", "it"), out, errs)
	}()
	s.t.Cleanup(cancel)
	return out, errs, func() int {
		cancel()
		return <-code
	}
}

// TestPluginGoesOn: commands that go on are heard as they write, and end there when their user ends them.
func TestPluginGoesOn(t *testing.T) {
	s := newPodServer(t)
	var running sync.WaitGroup
	goOn := func(in io.Reader, out, _ io.Writer) int {
		running.Add(1)
		defer running.Done()
		fmt.Fprint(out, `{"text": "first"}`+"\n")
		_, _ = io.Copy(io.Discard, in) // it ends with its input
		return 0
	}
	s.fakes = map[string]func(io.Reader, io.Writer, io.Writer) int{"trace": goOn, "get": goOn, "top": goOn}
	const both = `(?s)\{"node":"(here|there)","answer":\{"text": ?"first"\}\}.*\{"node":"(here|there)","answer":\{"text": ?"first"\}\}`
	for _, tt := range []struct{ args, want, command string }{
		{"trace --to demo/web --node here", "first", "here-pod: /nftproxy trace --until-eof --to=demo/web --"},
		{"trace --to demo/web --for 1h --node here", "first", "here-pod: /nftproxy trace --until-eof --for=1h0m0s --to=demo/web --"},
		{"get svc -w --node here", "first", "here-pod: /nftproxy get --until-eof --watch=true --namespace=demo -- svc"},
		{"top --node here", "first", "here-pod: /nftproxy top --until-eof --"},
		{"trace --for 1h --all-nodes -o json", both, "here-pod: /nftproxy trace --until-eof --for=1h0m0s --output=json --"},
		{"top --once=false --node here", "first", "here-pod: /nftproxy top --until-eof --once=false --"},
		{"trace --all-nodes", `(?s)(here|there) .*(here|there) `, "there-pod: /nftproxy trace --until-eof --"},
		{"trace --all-nodes -o json", both, "here-pod: /nftproxy trace --until-eof --output=json --"},
		{"get svc -A --watch --all-nodes", "there  ", "there-pod: /nftproxy get --until-eof --all-namespaces=true --watch=true --namespace=demo -- svc"},
	} {
		out, errs, end := s.goingOn(strings.Fields(tt.args)...)
		out.wait(t, tt.want)
		if code := end(); code != 0 || strings.Contains(errs.String(), "rror") {
			t.Errorf("%s: exit code %d: %s", tt.args, code, errs)
		}
		running.Wait() // or the test never ends
		s.mu.Lock()
		if !slices.Contains(s.commands, tt.command) {
			t.Errorf("%s: %q was not run: %q", tt.args, tt.command, s.commands)
		}
		s.commands = nil
		s.mu.Unlock()
	}
	s.mu.Lock() // a command that its user has left may begin yet
	s.fakes["trace"] = func(_ io.Reader, _, errs io.Writer) int {
		fmt.Fprintln(errs, "nftproxy: no tables")
		return 2
	}
	s.mu.Unlock()
	if code, _, errs := s.kubectl("trace", "--all-nodes"); code != 2 || !strings.Contains(errs, "no tables") {
		t.Errorf("all fail: exit code %d: %s", code, errs)
	}
}

// TestPluginTerminal: top has this terminal there.
func TestPluginTerminal(t *testing.T) {
	s := newPodServer(t)
	s.fakes = map[string]func(io.Reader, io.Writer, io.Writer) int{"top": func(_ io.Reader, out, _ io.Writer) int {
		fmt.Fprint(out, "new connections")
		return 0
	}}
	keys, screen := newTerminal(t), newTerminal(t) // one whose keys are waited for is not closed
	root := rootCommand("v1.2.3", nil)
	asPlugin(root)
	root.SetIn(keys.file)
	var errs output
	if code := execute(t.Context(), root, []string{"top", "--node", "here", "--kubeconfig", s.kubeconfig(), "--context", "it"}, screen.file, &errs); code != 0 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	if text := screen.text(); !strings.Contains(text, "new connections") || !slices.Contains(s.commands, "here-pod: /nftproxy top -- (on a terminal)") {
		t.Errorf("it shows %q; run was %q", text, s.commands)
	}
}

// TestPluginUI: the page of the nodes is served here, through commands in their pods.
func TestPluginUI(t *testing.T) {
	s := newPodServer(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"asked": %q}`, r.URL.RequestURI())
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	s.fakes = map[string]func(io.Reader, io.Writer, io.Writer) int{
		relayName: func(in io.Reader, out, errs io.Writer) int {
			conn, err := net.Dial("unix", path)
			if err == nil {
				err = relay(t.Context(), conn, in, out)
			}
			if err != nil {
				fmt.Fprintln(errs, "nftproxy:", err)
				return 2
			}
			return 0
		},
		"trace": func(in io.Reader, out, _ io.Writer) int {
			fmt.Fprintln(out, `{"text": "answered"}`)
			_, _ = io.Copy(io.Discard, in)
			return 0
		},
	}
	for _, tt := range []struct{ args, nodes string }{
		{"ui --node there", `"nodes":[{"name":"there","trace":true}]`},
		{"ui --all-nodes --socket /x/TABLE.sock", `"nodes":[{"name":"here","trace":true},{"name":"there","trace":true}]`},
	} {
		out, errs, end := s.goingOn(strings.Fields(tt.args)...)
		url := out.wait(t, `http://127\.0\.0\.1:\d+/\S{32}/`)
		errs.wait(t, "Ctrl-C")
		for ask, want := range map[string]string{"nodes": tt.nodes, "": "<!doctype html>", "api/0/v1/services?limit=7": `"/v1/services?limit=7"`} {
			answer, err := http.Get(url + ask)
			must(t, err)
			text, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%s: %s: %s, %v; want %q", tt.args, ask, text, err, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"trace/0?service=demo/web&at=10.96.0.10:80", nil)
		must(t, err)
		answer, err := http.DefaultClient.Do(q) //nolint:bodyclose // it is, at the end
		must(t, err)
		defer answer.Body.Close()
		var told output
		go func() { _, _ = io.Copy(&told, answer.Body) }()
		told.wait(t, `event: connection\ndata: {"text": "answered"}`)
		cancel()
		if code := end(); code != 0 {
			t.Errorf("%s: exit code %d: %s", tt.args, code, errs)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, want := range []string{"there-pod: /nftproxy relay", "here-pod: /nftproxy relay --socket=/x/TABLE.sock",
		"there-pod: /nftproxy trace --to=demo/web --output=json --rules --until-eof --at=10.96.0.10:80"} {
		if !slices.Contains(s.commands, want) {
			t.Errorf("%q was not run: %q", want, s.commands)
		}
	}
}

// TestPluginProbe: a pod makes a connection with what it has, while nftproxy on its node follows it.
func TestPluginProbe(t *testing.T) {
	s := newPodServer(t)
	connected := make(chan struct{}, 10)
	saw := 0
	s.fakes = map[string]func(io.Reader, io.Writer, io.Writer) int{
		"explain": func(_ io.Reader, out, errs io.Writer) int {
			fmt.Fprintf(errs, "nftproxy: "+waitingText+"\n", "10.244.1.10", "10.96.0.10:80", "tcp")
			<-connected
			fmt.Fprint(out, `{"target": "demo/web", "node": {"name": "there"}, "ports": [], "kernel": {"holds": true}, "probe": {"from": "10.244.1.10:4000", "to": "10.96.0.10:80",
"protocol": "tcp", "client": "", "verdict": "to endpoint 10.244.2.3:8080: answered", "outcome": "answered", "steps": ["ip nftproxy/services"], "endpoint": "10.244.2.3:8080"}}`)
			return 0
		},
		"bash": func(io.Reader, io.Writer, io.Writer) int { return 127 },
		"python3": func(_ io.Reader, _, errs io.Writer) int {
			connected <- struct{}{}
			if saw > 0 {
				fmt.Fprint(errs, "Traceback\nConnectionRefusedError: refused\x1b\n")
			}
			return saw
		},
	}
	code, out, errs := s.kubectl("explain", "svc/web", "--probe", "--from-pod", "client")
	if want := "One connection 10.244.1.10:4000 -> 10.96.0.10:80/tcp: connected\n  met ip nftproxy/services\n  straight to the endpoint 10.244.2.3:8080: connected\nVerdict: to endpoint"; code != 0 || !strings.Contains(out, want) || errs != "" {
		t.Errorf("exit code %d: %s\n%s", code, out, errs)
	}
	s.mu.Lock()
	for _, want := range []string{"there-pod: /nftproxy explain --output=json --from-pod=10.244.1.10,fd00::a --await --until-eof --probe=true --namespace=demo -- svc/web",
		`client: nc -z -w 3 10.96.0.10 80`, `client: bash -c exec 3<>"/dev/tcp/$0/$1" 10.244.2.3 8080`} {
		if !slices.Contains(s.commands, want) {
			t.Errorf("%q was not run: %q", want, s.commands)
		}
	}
	s.mu.Unlock()
	saw = 1
	if code, out, errs := s.kubectl("explain", "web", "-n", "demo", "--probe", "--from-pod", "demo/client", "--node", "there", "-o", "json"); code != 0 || !strings.Contains(out, `"client": "ConnectionRefusedError: refused\\x1b"`) {
		t.Errorf("exit code %d: %s\n%s", code, out, errs)
	}
	delete(s.fakes, "python3") // then its user has to
	s.fakes["perl"] = func(io.Reader, io.Writer, io.Writer) int { connected <- struct{}{}; return 126 }
	if code, out, errs := s.kubectl("explain", "svc/web", "--probe", "--from-pod", "client"); code != 0 || strings.Contains(out, "straight") || !strings.Contains(out, "-> 10.96.0.10:80/tcp\n") ||
		!strings.Contains(errs, "it has nothing to make a connection with") || !strings.Contains(errs, "connect from it to 10.96.0.10:80 within 30s") {
		t.Errorf("exit code %d: %s\n%s", code, out, errs)
	}
}
