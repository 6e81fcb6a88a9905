// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// Proxy is between nftproxy and an API server, and injects faults.
type Proxy struct {
	at       netip.AddrPort
	ns       *netns.NS
	upstream *httputil.ReverseProxy

	mu       sync.Mutex
	fault    *APIFault
	server   *http.Server
	requests int
}

// APIFault is what an API server, or the way to it, may do.
type APIFault struct {
	Name string
	// Down says that nobody listens.
	Down bool
	// Serve answers in the API server's place; nil: the API server does. Return false to have it answer all the same.
	Serve func(w http.ResponseWriter, r *http.Request) bool
	// Body changes the body of an answer of the API server's; nil: it stays.
	Body func(watch bool, body io.ReadCloser) io.ReadCloser
}

// NewProxy listens at an address of a namespace and forwards to an API server by a transport with the rights of an administrator.
// Answers are JSON, in which faults are easy to make.
func NewProxy(ns *netns.NS, at netip.AddrPort, server string, transport http.RoundTripper) (*Proxy, error) {
	to, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("make proxy: %w", err)
	}
	p := &Proxy{at: at, ns: ns}
	p.upstream = &httputil.ReverseProxy{Transport: transport, FlushInterval: -1, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.WriteHeader(http.StatusBadGateway)
	}, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = to.Host
		r.Out.Header.Set("Accept", "application/json")
		r.Out.Header.Del("Accept-Encoding")
	}, ModifyResponse: func(r *http.Response) error {
		if f := p.current(); f != nil && f.Body != nil {
			r.Body = f.Body(isWatch(r.Request), r.Body)
			r.ContentLength = -1
			r.Header.Del("Content-Length")
		}
		return nil
	}}
	return p, p.listen()
}

// Requests returns how many there were since the last call.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.requests
	p.requests = 0
	return n
}

// Set injects a fault from now on, also to what is going on; nil ends it.
func (p *Proxy) Set(f *APIFault) error {
	p.mu.Lock()
	p.fault = f
	server := p.server
	p.server = nil
	p.mu.Unlock()
	if server != nil {
		_ = server.Close() // the connections, too; it fails for those that are gone
	}
	if f != nil && f.Down {
		return nil
	}
	return p.listen()
}

// Close ends it.
func (p *Proxy) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		_ = p.server.Close()
	}
}

func (p *Proxy) listen() error {
	var l net.Listener
	if err := p.ns.Do(func() (err error) { l, err = net.Listen("tcp", p.at.String()); return err }); err != nil {
		return fmt.Errorf("listen as an API server: %w", err)
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = server
	go func() { _ = server.Serve(l) }()
	return nil
}

func (p *Proxy) current() *APIFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests++
	f := p.fault
	p.mu.Unlock()
	if f != nil && f.Serve != nil && f.Serve(w, r) {
		return
	}
	defer func() {
		if gone := recover(); gone != nil && gone != http.ErrAbortHandler { //nolint:errorlint // what was recovered is no error that others wrap
			panic(gone)
		}
	}()
	p.upstream.ServeHTTP(w, r)
}

func isWatch(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

// APIFaults are those that need nothing but the proxy.
func APIFaults() []APIFault {
	list := []APIFault{{Name: "gone", Down: true}, {Name: "hangs up", Serve: hangUp}}
	for _, code := range []int{401, 403, 404, 409, 410, 429, 500, 503} {
		list = append(list, APIFault{Name: fmt.Sprint(code), Serve: status(code)})
	}
	return append(list, []APIFault{
		{Name: "watches get 410", Serve: func(w http.ResponseWriter, r *http.Request) bool { return isWatch(r) && status(410)(w, r) }},
		{Name: "silent", Serve: func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }},
		{Name: "slow", Body: slowly},
		{Name: "endless", Serve: endless},
		{Name: "truncated", Body: truncated},
		{Name: "{}", Serve: says("application/json", "{}")},
		{Name: "HTML", Serve: says("text/html", "<html><body>Please log in</body></html>")},
		{Name: "watches closed at once", Serve: func(_ http.ResponseWriter, r *http.Request) bool { return isWatch(r) }},
		{Name: "bookmarks only", Serve: bookmarks},
		{Name: "duplicate events", Body: events(func(e []byte) [][]byte { return [][]byte{e, e, e} })},
		{Name: "reordered events", Body: reordered},
		{Name: "resource versions lower than ours", Body: lower},
	}...)
}

func hangUp(w http.ResponseWriter, _ *http.Request) bool {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
	return true
}

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": http.StatusText(code)})
		return true
	}
}

func says(kind, text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
		return true
	}
}

// endless begins a list, or an event, and does not come to its end.
func endless(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Content-Type", "application/json")
	text := `{"kind":"List","metadata":{"resourceVersion":"1"},"items":[`
	for more := bytes.Repeat([]byte(`{"metadata":{"name":"x"}},`), 1000); r.Context().Err() == nil; text = string(more) {
		if _, err := io.WriteString(w, text); err != nil {
			break
		}
	}
	return true
}

// transformed is a body that is another one, through a pipe.
func transformed(body io.ReadCloser, copyTo func(w io.Writer, r io.Reader) error) io.ReadCloser {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(copyTo(w, body)) }()
	return struct {
		io.Reader
		io.Closer
	}{r, closers{r, body}}
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// slowly lets 20 bytes pass at a time.
func slowly(_ bool, body io.ReadCloser) io.ReadCloser {
	return transformed(body, func(w io.Writer, r io.Reader) error {
		for {
			if _, err := io.CopyN(w, r, 20); err != nil {
				return end(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// truncated ends bodies early.
func truncated(_ bool, body io.ReadCloser) io.ReadCloser {
	return transformed(body, func(w io.Writer, r io.Reader) error {
		_, _ = io.CopyN(w, r, 100)
		return nil
	})
}

func end(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// events changes each event of watches.
func events(change func(event []byte) [][]byte) func(bool, io.ReadCloser) io.ReadCloser {
	return func(watch bool, body io.ReadCloser) io.ReadCloser {
		if !watch {
			return body
		}
		return transformed(body, func(w io.Writer, r io.Reader) error {
			lines := bufio.NewReader(r)
			for {
				line, err := lines.ReadBytes('\n')
				for _, e := range change(line) {
					if _, werr := w.Write(e); werr != nil {
						return werr
					}
				}
				if err != nil {
					return end(err)
				}
			}
		})
	}
}

// bookmarks sends nothing else to a watch, again and again. Their version is what the watch began after: a server may tell of no
// version whose events it has not sent.
func bookmarks(w http.ResponseWriter, r *http.Request) bool {
	kind, ok := map[string]string{"services": "Service", "nodes": "Node", "endpointslices": "EndpointSlice", "servicecidrs": "ServiceCIDR"}[path.Base(r.URL.Path)]
	version := r.URL.Query().Get("resourceVersion")
	if !isWatch(r) || !ok || r.URL.Query().Get("sendInitialEvents") == "true" || version == "" {
		return false
	}
	group := strings.TrimPrefix(strings.TrimPrefix(path.Dir(r.URL.Path), "/apis/"), "/api/")
	w.Header().Set("Content-Type", "application/json")
	for r.Context().Err() == nil {
		fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":%q}}}`+"\n", kind, group, version)
		if http.NewResponseController(w).Flush() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

// reordered sends two events in the wrong order, each time two have come.
func reordered(watch bool, body io.ReadCloser) io.ReadCloser {
	var held []byte
	return events(func(e []byte) [][]byte {
		if bytes.Contains(e, []byte(`"ADDED"`)) || bytes.Contains(e, []byte(`"BOOKMARK"`)) {
			return [][]byte{e}
		}
		if held == nil {
			held = bytes.Clone(e)
			return nil
		}
		first := held
		held = nil
		return [][]byte{e, first}
	})(watch, body)
}

// lower sends each change with a version of long ago.
func lower(watch bool, body io.ReadCloser) io.ReadCloser {
	return events(func(e []byte) [][]byte {
		var event struct {
			Type   string         `json:"type"`
			Object map[string]any `json:"object"`
		}
		if err := json.Unmarshal(e, &event); err != nil || event.Type != "MODIFIED" {
			return [][]byte{e}
		}
		if meta, ok := event.Object["metadata"].(map[string]any); ok {
			meta["resourceVersion"] = "2"
		}
		text, err := json.Marshal(event)
		if err != nil {
			return [][]byte{e}
		}
		return [][]byte{append(text, '\n')}
	})(watch, body)
}
