// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/page"
	"github.com/nftproxy/nftproxy/rules"
)

// many is the API of a node with so many Services.
type many struct{ n int }

func (m many) service(i int) ask.Service {
	s := ask.Service{Namespace: fmt.Sprintf("ns-%02d", i%50), Name: fmt.Sprintf("service-%05d", i), Type: "ClusterIP"}
	p := ask.Port{Identity: explain.Identity{Port: "http", Number: 80, Protocol: "tcp", Family: "ip"}, Frontends: []string{fmt.Sprintf("10.96.%d.%d:80", i/250, i%250)}, Scheduler: "round-robin",
		Internal: "Cluster", Used: i % 7, Ready: i % 7, All: i%7 + 1, State: ask.OK}
	if p.Used == 0 {
		p.State = ask.NoEndpoints
	}
	s.Ports = []ask.Port{p}
	return s
}

// RoundTrip implements http.RoundTripper.
func (m many) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(code int, v any) (*http.Response, error) {
		text, err := json.Marshal(v)
		return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text))}, err
	}
	switch r.URL.Path {
	case "/v1/services":
		from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		out := ask.Services{Services: []ask.Service{}}
		for i := from; i < min(m.n, from+limit); i++ {
			out.Services = append(out.Services, m.service(i))
		}
		if from+limit < m.n {
			out.Continue = strconv.Itoa(from + limit)
		}
		return answer(http.StatusOK, out)
	case "/v1/drift":
		return answer(http.StatusOK, ask.Drift{Why: "others are at it", Repairs: []ask.Transaction{}})
	case "/v1/diff":
		return answer(http.StatusOK, ask.Diff{Differences: []rules.Difference{
			{Kind: rules.Missing, Family: "ip", Object: "chain service/ns-07/service-00007/http"},
			{Kind: rules.Missing, Family: "ip", Object: "element 10.96.0.9 . tcp . 80 of map service-ips"}}})
	case "/v1/counts":
		counted := ask.Counts{Counted: true, At: time.Now()}
		for i := range m.n {
			counted.Counts = append(counted.Counts, ask.Count{Owner: ask.Owner{Namespace: m.service(i).Namespace, Name: m.service(i).Name}, New: uint64(counted.At.UnixMilli() * int64(i%5) / 1000)})
		}
		return answer(http.StatusOK, counted)
	case "/v1/transactions":
		return answer(http.StatusOK, ask.Transactions{Transactions: []ask.Transaction{}})
	case "/v1/watch":
		body := io.MultiReader(strings.NewReader("id: x-1\nevent: change\ndata: {\"last\":1,\"transactions\":[],\"services\":[],\"all\":true}\n\n"), hold{r.Context()})
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(body)}, nil
	}
	return answer(http.StatusNotFound, map[string]string{"error": "there is nothing"})
}

// hold is a reader that has nothing until ctx ends.
type hold struct{ context.Context }

func (h hold) Read([]byte) (int, error) {
	<-h.Done()
	return 0, io.EOF
}

// TestMany: 10,000 Services are listed, sorted, searched and scrolled through, and only those in sight are elements.
func TestMany(t *testing.T) {
	needsChromium(t)
	const n = 10000
	p, err := page.Listen("127.0.0.1:0", "test", []page.Node{{Name: "large", API: many{n}}, {Name: "small", API: many{3}}})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Serve(ctx) }()
	t.Cleanup(func() { cancel(); must(t, <-ended) })
	b := browse(t, p.URL(), 1280, 860)
	b.wait("all", fmt.Sprintf(`document.querySelector('.scroller')?.getAttribute('aria-rowcount') === '%d'`, n+1))
	if made := eval[int](b, `document.querySelectorAll('*').length`); made > 2000 {
		t.Errorf("%d elements are made", made)
	}
	eval[any](b, `document.querySelector('.scroller').focus()`)
	eval[any](b, `document.querySelector('.scroller').dispatchEvent(new KeyboardEvent('keydown', {key: 'End', bubbles: true}))`)
	b.wait("the last", `document.querySelector('.row.chosen')?.dataset.service === 'ns-49/service-09999'`)
	// How long it takes is for who reads: a machine may be slow.
	scrolled := eval[[]float64](b, `(async () => {
		const e = document.querySelector('.scroller'), times = [];
		for (let i = 0; i < 60; i++) {
			const began = performance.now();
			e.scrollTop = i * 5000;
			e.dispatchEvent(new Event('scroll'));
			e.getBoundingClientRect();
			times.push(performance.now() - began);
			await new Promise((done) => requestAnimationFrame(done));
		}
		return times.sort((a, b) => a - b);
	})()`)
	search := eval[float64](b, `(() => {
		const e = document.querySelector('input[type=search]'), began = performance.now();
		e.value = 'service-01234';
		e.dispatchEvent(new Event('input'));
		return performance.now() - began;
	})()`)
	b.wait("what was searched", `document.querySelectorAll('[data-service]').length === 1 && document.querySelector('[data-service]').dataset.service === 'ns-34/service-01234'`)
	t.Logf("a jump takes %.1f ms, the slowest %.1f ms; a search %.1f ms", scrolled[len(scrolled)/2], scrolled[len(scrolled)-1], search)
	eval[any](b, `(() => { const e = document.querySelector('input[type=search]'); e.value = ''; e.dispatchEvent(new Event('input')); })()`)
	b.wait("those that differ are known", `[...document.querySelectorAll('.filters button')].some((e) => e.textContent === 'Drift2')`)
	b.press("Drift")
	b.wait("those that differ", `[...document.querySelectorAll('[data-service]')].map((e) => e.dataset.service).join() === 'ns-07/service-00007,ns-09/service-00009'`)
	b.press("No endpoints")
	b.wait("those without endpoints", fmt.Sprintf(`document.querySelector('.scroller').getAttribute('aria-rowcount') === '%d'`, (n+6)/7+1))
	b.press("Endpoints")
	b.press("All")
	b.press("Endpoints")
	b.wait("those with most endpoints first", `document.querySelector('[data-service] .figures').textContent.startsWith('6/')`)
	b.press("New/s")
	b.wait("those with most new connections first", `Number(document.querySelector('[data-service] .rate .figures')?.textContent) >= 3`)
	b.shoot("many")
	// Another node.
	eval[any](b, `(() => { const e = document.getElementById('nodes'); e.value = '1'; e.dispatchEvent(new Event('change')); })()`)
	b.wait("the other node's", `document.querySelectorAll('[data-service]').length === 3`)
}
