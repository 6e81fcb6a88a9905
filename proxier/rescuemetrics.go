// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nftproxy/nftproxy/proxier/failover"
	"github.com/nftproxy/nftproxy/rules"
)

// FailoverMetrics counts what failover does. It is a prometheus.Collector.
type FailoverMetrics struct {
	rescued, ejected prometheus.Counter
	endpoints        *prometheus.GaugeVec
	suspended        prometheus.Gauge

	mu sync.Mutex // guards what follows
	// services are the totals by service port; nil: they are not kept.
	services map[rules.ServicePortName]*serviceTotals
}

type serviceTotals struct{ rescued, ejected float64 }

// mostServiceTotals bounds the series: a Service that is gone keeps its totals until there are so many.
const mostServiceTotals = 20000

// NewFailoverMetrics returns metrics that start at zero, by service port, too, if that is asked for.
func NewFailoverMetrics(byService bool) *FailoverMetrics {
	m := &FailoverMetrics{
		rescued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "nftproxy_failover_rescued_total", Help: "Connections without an answer that were freed from their endpoint."}),
		ejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "nftproxy_failover_ejected_total", Help: "How often an endpoint got no new connections because it did not answer from this node."}),
		endpoints: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "nftproxy_failover_endpoints", Help: "Endpoints that connections go to from this node (in-use), those of them that do not answer (suspect), and those that get no new connections therefore (ejected), while some connection had no answer."},
			[]string{"state"}),
		suspended: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "nftproxy_failover_suspended", Help: "1 while more than half of the endpoints that connections go to do not answer, so that none is ejected."}),
	}
	if byService {
		m.services = map[rules.ServicePortName]*serviceTotals{}
	}
	m.counts(failover.Counts{})
	return m
}

var (
	failoverLabels     = []string{"namespace", "service", "port"}
	serviceRescuedDesc = prometheus.NewDesc("nftproxy_service_rescued_total", "Connections to a service port without an answer that were freed from their endpoint.", failoverLabels, nil)
	serviceEjectedDesc = prometheus.NewDesc("nftproxy_service_ejected_total", "How often an endpoint of a service port got no new connections because it did not answer from this node.", failoverLabels, nil)
)

// Describe implements prometheus.Collector.
func (m *FailoverMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.rescued, m.ejected, m.endpoints, m.suspended} {
		c.Describe(ch)
	}
	ch <- serviceRescuedDesc
	ch <- serviceEjectedDesc
}

// Collect implements prometheus.Collector.
func (m *FailoverMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.rescued, m.ejected, m.endpoints, m.suspended} {
		c.Collect(ch)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, t := range m.services {
		ch <- prometheus.MustNewConstMetric(serviceRescuedDesc, prometheus.CounterValue, t.rescued, n.Namespace, n.Name, n.Port)
		ch <- prometheus.MustNewConstMetric(serviceEjectedDesc, prometheus.CounterValue, t.ejected, n.Namespace, n.Name, n.Port)
	}
}

// rescue counts a connection that is freed.
func (m *FailoverMetrics) rescue(n rules.ServicePortName) {
	m.rescued.Inc()
	m.add(n, func(t *serviceTotals) { t.rescued++ })
}

// eject counts an endpoint that is ejected.
func (m *FailoverMetrics) eject(n rules.ServicePortName) {
	m.ejected.Inc()
	m.add(n, func(t *serviceTotals) { t.ejected++ })
}

func (m *FailoverMetrics) add(n rules.ServicePortName, do func(*serviceTotals)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.services == nil {
		return
	}
	t := m.services[n]
	if t == nil {
		if len(m.services) >= mostServiceTotals {
			clear(m.services)
		}
		t = &serviceTotals{}
		m.services[n] = t
	}
	do(t)
}

// counts notes how many endpoints there are.
func (m *FailoverMetrics) counts(c failover.Counts) {
	for state, n := range map[string]int{"in-use": c.InUse, "suspect": c.Suspect, "ejected": c.Out} {
		m.endpoints.WithLabelValues(state).Set(float64(n))
	}
	suspended := 0.0
	if c.Trouble {
		suspended = 1
	}
	m.suspended.Set(suspended)
}
