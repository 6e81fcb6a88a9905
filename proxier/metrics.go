// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// Metrics counts what a Proxier does. It is a prometheus.Collector.
type Metrics struct {
	collectors   []prometheus.Collector
	syncDuration prometheus.Histogram
	transactions transactionMetrics
	repairs      prometheus.Counter
	skipped      prometheus.Counter
	servicePorts prometheus.Gauge
	failing      prometheus.Gauge
	flows        prometheus.Counter
	conflicts    prometheus.Gauge
	leftOut      *prometheus.GaugeVec
	objects      *prometheus.GaugeVec
	kubeProxy    *kubeProxyMetrics
}

// transactionMetrics are about transactions.
type transactionMetrics struct {
	duration, elements prometheus.Histogram
	refused            *prometheus.CounterVec // by errno
}

// NewMetrics returns metrics that start at zero.
func NewMetrics() *Metrics {
	seconds := prometheus.ExponentialBuckets(0.0001, 3, 12) // 0.1 ms to 18 s
	m := &Metrics{
		syncDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nftproxy_sync_duration_seconds", Help: "Time from taking changes to having them in the kernel.", Buckets: seconds}),
		transactions: transactionMetrics{duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "nftproxy_transaction_duration_seconds", Help: "Time of one transaction, encoding included.", Buckets: seconds}),
			elements: prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "nftproxy_transaction_elements", Help: "Set and map elements in one transaction.",
				Buckets: prometheus.ExponentialBuckets(1, 10, 7)}),
			refused: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "nftproxy_transactions_refused_total", Help: "Transactions that the kernel refused, by errno."}, []string{"errno"})},
		repairs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "nftproxy_repairs_total", Help: "Operations by which audits repaired the kernel's tables."}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "nftproxy_skipped_total", Help: "Parts of objects that could not be used."}),
		servicePorts: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "nftproxy_service_ports", Help: "Service ports that are programmed, each family counted."}),
		failing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "nftproxy_failing_service_ports", Help: "Service ports whose rules the kernel refuses."}),
		flows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "nftproxy_conntrack_deleted_total", Help: "Conntrack entries deleted because their endpoint is gone."}),
		conflicts: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "nftproxy_frontend_conflicts", Help: "Addresses, protocols and ports that a service port does without because another Service has them, or because the node reaches its API server there."}),
		leftOut: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "nftproxy_left_out", Help: "What is left out because one Service asks for more than a Service can have, by kind."}, []string{"kind"}),
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "nftproxy_kernel_objects", Help: "Objects in nftproxy's tables, by kind; clients with session affinity are not among the elements."},
			[]string{"family", "kind"}),
	}
	for _, errno := range []syscall.Errno{unix.EBUSY, unix.EEXIST, unix.EINVAL, unix.ENOBUFS, unix.ENOENT, unix.ENOMEM, unix.EOPNOTSUPP, unix.EPERM} {
		m.transactions.refused.WithLabelValues(unix.ErrnoName(errno)) // there from the start: an increase from nothing would not be seen
	}
	m.transactions.refused.WithLabelValues(otherErrno)
	m.collectors = []prometheus.Collector{m.syncDuration, m.transactions.duration, m.transactions.elements, m.transactions.refused, m.repairs,
		m.skipped, m.servicePorts, m.failing, m.flows, m.conflicts, m.leftOut, m.objects}
	m.leavesOut(cluster.Excess{}, 0)
	m.kubeProxy = newKubeProxyMetrics()
	m.collectors = append(m.collectors, m.kubeProxy.collectors()...)
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors {
		c.Collect(ch)
	}
}

// otherErrno is the label of refusals without a known errno.
const otherErrno = "other"

// carriedOut notes transactions, and what the kernel refused.
func (m *transactionMetrics) carriedOut(list []transaction) {
	for _, t := range list {
		if t.err == nil {
			m.duration.Observe(t.took.Seconds())
			m.elements.Observe(float64(t.elements))
			continue
		}
		name := otherErrno
		var errno syscall.Errno
		if errors.As(t.err, &errno) {
			name = unix.ErrnoName(errno)
		}
		m.refused.WithLabelValues(name).Inc()
	}
}

// leavesOut notes what is left out.
func (m *Metrics) leavesOut(over cluster.Excess, endpoints int) {
	for why, n := range map[reason.Code]int{
		reason.TooManyPorts: over.Ports, reason.TooManyFrontends: over.Frontends, reason.TooManyRanges: over.Ranges,
		reason.TooManySets: over.Sets, reason.TooManyEndpoints: endpoints,
	} {
		m.leftOut.WithLabelValues(why.Kind()).Set(float64(n))
	}
}

// holds notes what the kernel holds now.
func (m *Metrics) holds(d *rules.Desired) {
	for _, f := range rules.Families {
		c := d.Counts(f)
		for kind, n := range map[string]int{"table": 1, "chain": c.Chains, "rule": c.Rules, "set": c.Sets, "map": c.Maps, "element": c.Elements} {
			m.objects.WithLabelValues(f.String(), kind).Set(float64(n))
		}
	}
}
