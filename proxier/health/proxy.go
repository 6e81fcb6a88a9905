// SPDX-License-Identifier: Apache-2.0

package health

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Proxy knows whether nftproxy works: whether changes are programmed in time.
type Proxy struct {
	timeout time.Duration

	mu       sync.Mutex
	began    time.Time // when it was first tried to program anything; zero: not yet
	queued   time.Time // since when a change has been waiting; zero: none is
	updated  time.Time // when all was programmed last; zero: never
	found    bool      // rules of a former run are in force
	eligible bool

	answers map[question]*prometheus.CounterVec
}

// question is what is asked for.
type question int

const (
	healthz question = iota // does nftproxy work, has the node rules, and does it stay?
	livez                   // does nftproxy work?
	readyz                  // does it, and has it programmed all that was listed?
)

// NewProxy returns a Proxy that is well, on a node that stays and has no rules yet. A change may take
// the timeout before the Proxy is not well any more.
func NewProxy(timeout time.Duration) *Proxy {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"code"})
	}
	return &Proxy{timeout: timeout, eligible: true, answers: map[question]*prometheus.CounterVec{
		healthz: counter("kubeproxy_proxy_healthz_total", "Cumulative proxy healthz HTTP status"),
		livez:   counter("kubeproxy_proxy_livez_total", "Cumulative proxy livez HTTP status"),
	}}
}

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range p.answers {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (p *Proxy) Collect(ch chan<- prometheus.Metric) {
	for _, c := range p.answers {
		c.Collect(ch)
	}
}

// Found notes that rules of a former run are in force, which serve until they are adopted.
func (p *Proxy) Found() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = true
}

// Began notes that all that must be known is, and that programming it is first tried.
func (p *Proxy) Began() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Now()
}

// Queued notes that a change came in.
func (p *Proxy) Queued() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queued.IsZero() {
		p.queued = time.Now()
	}
}

// Updated notes that all changes that came in are programmed.
func (p *Proxy) Updated() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued, p.updated = time.Time{}, time.Now()
}

// SetNodeEligible says whether load balancers may send connections to this node: not
// if it is about to be deleted (KEP-3458).
func (p *Proxy) SetNodeEligible(eligible bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eligible = eligible
}

// Healthy says whether no change has been waiting for too long. At the start, until all has been
// programmed once, only the time since that was first tried counts: what must be known before may
// take long to come, and no restart would help.
func (p *Proxy) Healthy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.healthy()
}

func (p *Proxy) healthy() bool {
	since := p.queued
	if p.updated.IsZero() {
		since = p.began
	}
	return since.IsZero() || time.Since(since) < p.timeout
}

// state is the body of an answer.
type state struct {
	LastUpdated  time.Time              `json:"lastUpdated"`
	CurrentTime  time.Time              `json:"currentTime"`
	NodeEligible *bool                  `json:"nodeEligible,omitempty"`
	Healthy      bool                   `json:"healthy"`
	Status       map[string]familyState `json:"status,omitempty"`
}

type familyState struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// Handler serves /healthz and /livez. /healthz is for load balancers: it depends on the node, too, and is not good until all was
// programmed once or rules of a former run were found, for a node without rules serves nobody. A restart would not help, so
// /livez is good meanwhile.
func (p *Proxy) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", p.answer(healthz))
	mux.HandleFunc("/livez", p.answer(livez))
	return mux
}

// ProbeHandler serves /livez and /readyz, for a kubelet's probes. kube-proxy has no /readyz. It is not good until this
// process has programmed all, whatever was found.
func (p *Proxy) ProbeHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", p.answer(livez))
	mux.HandleFunc("/readyz", p.answer(readyz))
	return mux
}

func (p *Proxy) answer(q question) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s, well := p.state(q)
		code := http.StatusOK
		if !well {
			code = http.StatusServiceUnavailable
		}
		if counter := p.answers[q]; counter != nil {
			counter.WithLabelValues(strconv.Itoa(code)).Inc()
		}
		body, err := json.Marshal(s)
		reply(w, well, body, err)
	}
}

// state returns the answer's body, and whether it is a good one.
func (p *Proxy) state(q question) (state, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := state{LastUpdated: p.updated, CurrentTime: time.Now(), Healthy: p.healthy()}
	if !p.updated.IsZero() {
		f := familyState{LastUpdated: p.updated, Healthy: s.Healthy}
		s.Status = map[string]familyState{"IPv4": f, "IPv6": f}
	}
	well := s.Healthy
	switch q {
	case healthz:
		eligible := p.eligible
		s.NodeEligible = &eligible
		s.Healthy = s.Healthy && (p.found || !p.updated.IsZero())
		well = s.Healthy && eligible
	case readyz:
		well = well && !p.updated.IsZero()
		s.Healthy = well
	case livez:
	}
	if well {
		s.LastUpdated = s.CurrentTime // as recent as the answer, where nothing is late
	}
	return s, well
}
