// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// api answers with what it was asked, or fails.
type api func(*http.Request) (*http.Response, error)

func (a api) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func answerOf(code int, kind, body string) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))}
}

// asked answers with what was asked.
func asked(r *http.Request) (*http.Response, error) {
	return answerOf(http.StatusTeapot, "text/html", fmt.Sprintf("%s %s %s", r.Method, r.URL, r.Header.Get("Last-Event-ID"))), nil
}

// serve serves a page of nodes until the test ends.
func serve(t *testing.T, nodes ...Node) *Page {
	t.Helper()
	p, err := Listen("127.0.0.1:0", "v1.2.3", nodes)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestGuard: who does not know the token, who comes by another name or from another page, and who wants to write, gets nothing.
func TestGuard(t *testing.T) {
	p := serve(t, Node{Name: "n", API: api(asked)})
	host, token := p.listener.Addr().String(), p.token
	_, port, _ := strings.Cut(host, ":")
	for _, tt := range []struct {
		name, method, path, host string
		header                   [2]string
		want                     int
	}{
		{"the page", "GET", "/" + token + "/", host, [2]string{}, 200},
		{"its head", "HEAD", "/" + token + "/", host, [2]string{}, 200},
		{"by name", "GET", "/" + token + "/", "localhost:" + port, [2]string{}, 200},
		{"a file", "GET", "/" + token + "/main.js", host, [2]string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"typed in", "GET", "/" + token + "/", host, [2]string{"Sec-Fetch-Site", "none"}, 200},
		{"its own question", "GET", "/" + token + "/api/0/v1/node", host, [2]string{"Origin", "http://" + host}, http.StatusTeapot},
		{"no token", "GET", "/", host, [2]string{}, 404},
		{"another token", "GET", "/" + strings.Repeat("A", len(token)) + "/", host, [2]string{}, 404},
		{"a part of it", "GET", "/" + token[1:] + "/", host, [2]string{}, 404},
		{"only the token", "GET", "/" + token, host, [2]string{}, 404},
		{"no such file", "GET", "/" + token + "/none.js", host, [2]string{}, 404},
		{"above the files", "GET", "/" + token + "/../page.go", host, [2]string{}, 404},
		{"no token, the API", "GET", "/api/0/v1/node", host, [2]string{}, 404},
		{"a name that leads here", "GET", "/" + token + "/", "evil.example:" + port, [2]string{}, 421},
		{"another port", "GET", "/" + token + "/", "127.0.0.1:1", [2]string{}, 421},
		{"another address", "GET", "/" + token + "/", "127.0.0.2:" + port, [2]string{}, 421},
		{"writing", "POST", "/" + token + "/api/0/v1/node", host, [2]string{}, 405},
		{"deleting", "DELETE", "/" + token + "/", host, [2]string{}, 405},
		{"another site", "GET", "/" + token + "/api/0/v1/node", host, [2]string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a neighbour", "GET", "/" + token + "/", host, [2]string{"Sec-Fetch-Site", "same-site"}, 403},
		{"another origin", "GET", "/" + token + "/api/0/v1/node", host, [2]string{"Origin", "http://evil.example"}, 403},
		{"an origin that hides", "GET", "/" + token + "/api/0/v1/node", host, [2]string{"Origin", "null"}, 403},
	} {
		r := httptest.NewRequest(tt.method, "http://x"+tt.path, nil)
		r.Host = tt.host
		if tt.header[0] != "" {
			r.Header.Set(tt.header[0], tt.header[1])
		}
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, r)
		if w.Code != tt.want && !(tt.want == 404 && w.Code == http.StatusTemporaryRedirect && strings.HasPrefix(tt.name, "above")) {
			t.Errorf("%s: %d %s, want %d", tt.name, w.Code, w.Body, tt.want)
		}
		for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'; script-src 'self'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
			if got := w.Header().Get(name); !strings.HasPrefix(got, want) && !(name == "Cache-Control" && w.Code == 404) { // a file's fault has none
				t.Errorf("%s: %s is %q, want %q", tt.name, name, got, want)
			}
		}
		if strings.Contains(w.Body.String(), token) {
			t.Errorf("%s: it tells the token", tt.name)
		}
	}
}

// TestListen: only loopback, and never the same token.
func TestListen(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "192.0.2.1:0", "[::]:0", "localhost:0", ":0", "x", ""} {
		if p, err := Listen(address, "", nil); err == nil {
			t.Errorf("%q is listened at: %s", address, p.URL())
		}
	}
	one, two := serve(t), serve(t)
	if one.token == two.token || len(one.token) < 32 {
		t.Errorf("tokens %q and %q", one.token, two.token)
	}
}

// ask asks for a path of the page.
func ask(t *testing.T, p *Page, path string) (int, http.Header, string) {
	t.Helper()
	answer, err := http.Get(p.URL() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

// TestAPI: questions and answers are handed on, and whatever a node answers is data.
func TestAPI(t *testing.T) {
	fails := api(func(*http.Request) (*http.Response, error) { return nil, errors.New("no \x1b[31mway") })
	p := serve(t, Node{Name: "a", API: api(asked)}, Node{Name: "b", API: fails})
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"api/0/v1/services?limit=2&continue=a/b": {http.StatusTeapot, "GET http://nftproxy/v1/services?limit=2&continue=a/b "},
		"api/0/v1/services/a/b":                  {http.StatusTeapot, "GET http://nftproxy/v1/services/a/b "},
		"api/0/v1/watch?after=1":                 {http.StatusTeapot, "GET http://nftproxy/v1/watch?after=1 "},
		"api/1/v1/node":                          {http.StatusBadGateway, `{"error":"the nftproxy of node b does not answer: no \\x1b[31mway"}`},
		"api/2/v1/node":                          {http.StatusNotFound, `{"error":"there is no node \"2\""}`},
		"api/-1/v1/node":                         {http.StatusNotFound, `{"error":"there is no node \"-1\""}`},
		"api/0/v2/node":                          {http.StatusNotFound, ""},
		"trace/0?service=a/b":                    {http.StatusNotImplemented, `{"error":"connections on node a cannot be followed from here"}`},
		"trace/9?service=a/b":                    {http.StatusNotFound, `{"error":"there is no node \"9\""}`},
		"nodes":                                  {http.StatusOK, `{"version":"v1.2.3","nodes":[{"name":"a","trace":false},{"name":"b","trace":false}]}`},
	} {
		code, header, text := ask(t, p, path)
		if code != want.code || want.text != "" && text != want.text {
			t.Errorf("%s: %d %s, want %d %s", path, code, text, want.code, want.text)
		}
		if want.text != "" && header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: it is %s", path, header.Get("Content-Type"))
		}
	}
}

// TestWatch: events are handed on as they come, and where the browser was.
func TestWatch(t *testing.T) {
	r, w := io.Pipe()
	p := serve(t, Node{Name: "n", API: api(func(q *http.Request) (*http.Response, error) {
		if id := q.Header.Get("Last-Event-ID"); id != "x-7" {
			t.Errorf("the last event is %q", id)
		}
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: r}, nil
	})})
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"api/0/v1/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Last-Event-ID", "x-7")
	go func() { _, _ = io.WriteString(w, "data: 1\n\n") }()
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	for _, want := range []string{"data: 1\n", "\n"} {
		if line, err := lines.ReadString('\n'); line != want { // and the answer is not over
			t.Errorf("%q (%v), want %q", line, err, want)
		}
	}
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("it is %s", kind)
	}
	_ = w.Close()
}

// TestTrace: each connection is an event; those that come too fast are counted; and the end has a reason.
func TestTrace(t *testing.T) {
	const many = 10 * mostLines
	hold := make(chan struct{})
	p := serve(t, Node{Name: "n", API: api(asked), Trace: func(ctx context.Context, service, at string, w io.Writer) error {
		switch service {
		case "a/held":
			<-ctx.Done()
			close(hold)
			return nil
		case "a/long":
			_, err := io.WriteString(w, strings.Repeat("x", maxLine+1))
			return err
		}
		fmt.Fprintf(w, "{\"to\":%q}\nno json\n{\"half\":", at)
		fmt.Fprint(w, "true}\n")
		for range many {
			fmt.Fprint(w, "{}\n")
		}
		return errors.New("enough")
	}})
	began := time.Now()
	code, header, text := ask(t, p, "trace/0?service=a/b&at=10.0.0.1:80")
	seconds := int(time.Since(began)/time.Second) + 2 // that it was in
	if code != 200 || header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d %v", code, header)
	}
	begin := "event: began\ndata: null\n\nevent: connection\ndata: {\"to\":\"10.0.0.1:80\"}\n\nevent: connection\ndata: {\"half\":true}\n\n"
	if !strings.HasPrefix(text, begin) || !strings.HasSuffix(text, "event: ended\ndata: \"enough\"\n\n") || !strings.Contains(text, "event: lost\ndata: ") {
		t.Errorf("it says\n%s", text)
	}
	if n := strings.Count(text, "event: connection"); n > seconds*mostLines {
		t.Errorf("%d connections are shown", n)
	}
	if _, _, text := ask(t, p, "trace/0?service=a/long"); !strings.Contains(text, "a line is longer") {
		t.Errorf("a long line: %s", text)
	}
	for _, wrong := range []string{"", "?service=a", "?service=a/b/c"} {
		if code, _, text := ask(t, p, "trace/0"+wrong); code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", wrong, code, text)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	q, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+"trace/0?service=a/held", nil)
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = answer.Body.Close()
	select { // who has gone is not traced for
	case <-hold:
	case <-time.After(time.Minute):
		t.Error("it goes on though nobody reads")
	}
}

// TestTraces: so many are followed at once, and no more.
func TestTraces(t *testing.T) {
	p := serve(t, Node{Name: "n", API: api(asked), Trace: func(ctx context.Context, _, _ string, _ io.Writer) error {
		<-ctx.Done()
		return nil
	}})
	for range mostTraces {
		q, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"trace/0?service=a/b", nil)
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
	}
	if code, _, text := ask(t, p, "trace/0?service=a/b"); code != http.StatusServiceUnavailable {
		t.Errorf("one more: %d %s", code, text)
	}
}

// TestAssets: the page is small, has all it needs, and nothing that makes markup of text.
func TestAssets(t *testing.T) {
	const most = 300 << 10
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|srcdoc|\beval\(|new Function|javascript:|https?://|style=|<script>|onerror=`)
	imported := regexp.MustCompile(`(?:from '\./|src="|href=")([a-z]+\.[a-z]+)['"]`)
	size, names, wanted := int64(0), map[string]bool{}, map[string]string{}
	err := fs.WalkDir(assets, "assets", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := assets.ReadFile(path)
		size += int64(len(text))
		names[d.Name()] = true
		clean := strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", "")
		for _, found := range forbidden.FindAllString(clean, -1) {
			t.Errorf("%s has %s", path, found)
		}
		for _, m := range imported.FindAllStringSubmatch(clean, -1) {
			wanted[m[1]] = path
		}
		return err
	})
	if err != nil || size > most {
		t.Errorf("the page has %d bytes, more than %d (%v)", size, most, err)
	}
	for name, by := range wanted {
		if !names[name] {
			t.Errorf("%s wants %s, which is not there", by, name)
		}
	}
	if len(wanted) < 10 {
		t.Errorf("only %d imports are found", len(wanted))
	}
}
