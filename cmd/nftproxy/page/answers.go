// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/printable"
)

// Bounds of what is handed on.
const (
	maxAnswer      = 64 << 20
	answerPatience = 30 * time.Second
	// eventPatience is how long a part of a stream may take to be sent.
	eventPatience = 10 * time.Second
	// tracePatience is how long connections are followed at most.
	tracePatience = 15 * time.Minute
)

// about is the answer to /nodes.
type about struct {
	Version string      `json:"version"`
	Nodes   []aboutNode `json:"nodes"`
}

type aboutNode struct {
	Name  string `json:"name"`
	Trace bool   `json:"trace"`
}

// list answers with the nodes there are, by which numbers they are asked.
func (p *Page) list(w http.ResponseWriter, _ *http.Request) {
	out := about{Version: p.version, Nodes: []aboutNode{}}
	for i := range p.nodes {
		out.Nodes = append(out.Nodes, aboutNode{printable.Word(p.nodes[i].Name), p.nodes[i].Trace != nil})
	}
	answer(w, http.StatusOK, out)
}

func answer(w http.ResponseWriter, code int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text)
}

func fault(w http.ResponseWriter, code int, err error) {
	answer(w, code, map[string]string{"error": printable.Error(err)})
}

// node returns the node that a request names by its number.
func (p *Page) node(r *http.Request) (*Node, error) {
	i, err := strconv.Atoi(r.PathValue("node"))
	if err != nil || i < 0 || i >= len(p.nodes) {
		return nil, fmt.Errorf("there is no node %q", r.PathValue("node"))
	}
	return &p.nodes[i], nil
}

// api hands a question on, and its answer back.
func (p *Page) api(w http.ResponseWriter, r *http.Request) {
	n, err := p.node(r)
	if err != nil {
		fault(w, http.StatusNotFound, err)
		return
	}
	ctx := r.Context()
	watch := r.PathValue("path") == "watch"
	if !watch {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerPatience)
		defer cancel()
	}
	to := url.URL{Scheme: "http", Host: "nftproxy", Path: "/v1/" + r.PathValue("path"), RawQuery: r.URL.RawQuery}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		fault(w, http.StatusBadRequest, err)
		return
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		ask.Header.Set("Last-Event-ID", id)
	}
	got, err := n.API.RoundTrip(ask)
	if err != nil {
		fault(w, http.StatusBadGateway, fmt.Errorf("the nftproxy of node %s does not answer: %w", n.Name, err))
		return
	}
	defer got.Body.Close()
	kind := "application/json" // whatever it says that it is
	if watch && strings.HasPrefix(got.Header.Get("Content-Type"), "text/event-stream") {
		kind = "text/event-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(got.StatusCode)
	if kind == "application/json" {
		_, _ = io.Copy(w, io.LimitReader(got.Body, maxAnswer))
		return
	}
	_, _ = io.Copy(newStream(w), got.Body)
}

// stream sends each part at once, and gives who does not take it a while.
type stream struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func newStream(w http.ResponseWriter) stream { return stream{w, http.NewResponseController(w)} }

// Write implements io.Writer.
func (s stream) Write(b []byte) (int, error) {
	if err := s.c.SetWriteDeadline(time.Now().Add(eventPatience)); err != nil {
		return 0, err
	}
	n, err := s.w.Write(b)
	if err == nil {
		err = s.c.Flush()
	}
	return n, err
}

// trace follows connections to a Service.
func (p *Page) trace(w http.ResponseWriter, r *http.Request) {
	n, err := p.node(r)
	service := r.URL.Query().Get("service")
	switch {
	case err != nil:
		fault(w, http.StatusNotFound, err)
		return
	case n.Trace == nil:
		fault(w, http.StatusNotImplemented, fmt.Errorf("connections on node %s cannot be followed from here", n.Name))
		return
	case strings.Count(service, "/") != 1:
		fault(w, http.StatusBadRequest, fmt.Errorf("service: %q is not NAMESPACE/NAME", service))
		return
	}
	select {
	case p.traces <- struct{}{}:
		defer func() { <-p.traces }()
	default:
		fault(w, http.StatusServiceUnavailable, fmt.Errorf("connections are followed %d times already: close another page", mostTraces))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	ctx, cancel := context.WithTimeout(r.Context(), tracePatience)
	defer cancel()
	out := &events{to: newStream(w), fail: cancel}
	out.say("began", nil)
	var beating sync.WaitGroup
	beating.Go(func() { out.beat(ctx) })
	err = n.Trace(ctx, service, r.URL.Query().Get("at"), out)
	cancel()
	beating.Wait()
	if err == nil {
		err = fmt.Errorf("it has ended, after %s at most", tracePatience)
	}
	out.say("ended", []byte(strconv.Quote(printable.Error(err))))
}

// events makes each line that is written to it an event. Lines come as fast as connections do: more than the browser can show in
// a moment are counted, and not sent.
type events struct {
	to   io.Writer
	fail func()

	mu     sync.Mutex
	rest   []byte // of a line
	second int64
	sent   int // in that second
	lost   int
}

// mostLines is how many lines a second are sent, and maxLine how long one may be.
const (
	mostLines = 50
	maxLine   = 64 << 10
)

// Write implements io.Writer.
func (e *events) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rest = append(e.rest, b...)
	for {
		line, rest, ok := bytes.Cut(e.rest, []byte("\n"))
		if !ok {
			break
		}
		e.rest = rest
		if err := e.line(line); err != nil {
			return 0, err
		}
	}
	if len(e.rest) > maxLine {
		e.rest = nil
		return 0, fmt.Errorf("a line is longer than %d bytes", maxLine)
	}
	return len(b), nil
}

func (e *events) line(line []byte) error {
	if now := time.Now().Unix(); now != e.second {
		e.second, e.sent = now, 0
	}
	if e.sent++; e.sent > mostLines {
		e.lost++
		return nil
	}
	if !json.Valid(line) {
		return nil
	}
	return e.event("connection", line)
}

// event sends an event, after how many were left out before it.
func (e *events) event(name string, data []byte) error {
	var b bytes.Buffer
	if e.lost > 0 {
		fmt.Fprintf(&b, "event: lost\ndata: %d\n\n", e.lost)
		e.lost = 0
	}
	if data == nil {
		data = []byte("null")
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", name, data)
	_, err := e.to.Write(b.Bytes())
	if err != nil {
		e.fail()
	}
	return err
}

func (e *events) say(name string, data []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.event(name, data) // nobody is there any more
}

// beat notices in time that nobody reads any more.
func (e *events) beat(ctx context.Context) {
	const pace = 10 * time.Second
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.say("beat", nil)
		}
	}
}
