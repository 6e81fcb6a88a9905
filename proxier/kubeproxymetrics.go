// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// kubeProxyMetrics are those of kube-proxy's nftables mode (1.37), under its names and
// labels, so that dashboards and alerts keep working. Both families are programmed
// together, so what is not about a family has the same values for both.
type kubeProxyMetrics struct {
	sync, fullSync, partialSync *prometheus.HistogramVec
	lastSync, lastQueued        *prometheus.GaugeVec
	programming                 *prometheus.HistogramVec
	syncFailures                *prometheus.CounterVec
	noLocalEndpoints            *prometheus.GaugeVec
	reconcileFlows              *prometheus.HistogramVec
	deletedFlows                *prometheus.CounterVec
	// backlog tells how many changes wait; nil: nobody knows yet.
	backlog *atomic.Pointer[func() cluster.Backlog]
	others  []prometheus.Collector // that nobody but the backlog changes
}

// familyLabels are the values of the label ip_family.
var familyLabels = [2]string{rules.IPv4: "IPv4", rules.IPv6: "IPv6"}

func newKubeProxyMetrics() *kubeProxyMetrics {
	name := func(s string) string { return "kubeproxy_" + s }
	seconds := prometheus.ExponentialBuckets(0.001, 2, 15)
	family := []string{"ip_family"}
	histogram := func(s, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name(s), Help: help, Buckets: buckets}, family)
	}
	gauge := func(s, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name(s), Help: help}, labels)
	}
	counter := func(s, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(s), Help: help}, family)
	}
	var programming []float64 // the bucket of 0 is kube-proxy's, too
	for _, r := range []struct{ from, step, n float64 }{{0, 0.25, 3}, {1, 1, 59}, {60, 5, 12}, {120, 30, 7}} {
		programming = append(programming, prometheus.LinearBuckets(r.from, r.step, int(r.n))...)
	}
	cleanupFailures := counter("sync_proxy_rules_nftables_cleanup_failures_total", "Cumulative proxy nftables cleanup failures")
	m := &kubeProxyMetrics{
		backlog:          &atomic.Pointer[func() cluster.Backlog]{},
		sync:             histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", seconds),
		fullSync:         histogram("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", seconds),
		partialSync:      histogram("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", seconds),
		lastSync:         gauge("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", family...),
		lastQueued:       gauge("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", family...),
		programming:      histogram("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", programming),
		syncFailures:     counter("sync_proxy_rules_nftables_sync_failures_total", "Cumulative proxy nftables sync failures"),
		noLocalEndpoints: gauge("sync_proxy_rules_no_local_endpoints_total", "Number of services with a Local traffic policy and no endpoints", "traffic_policy", "ip_family"),
		reconcileFlows:   histogram("conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds", seconds),
		deletedFlows:     counter("conntrack_reconciler_deleted_entries_total", "Cumulative conntrack flows deleted by conntrack reconciler"),
	}
	for _, f := range familyLabels { // counters are there from the start
		m.reconcileFlows.WithLabelValues(f)
		m.programming.WithLabelValues(f)
		m.syncFailures.WithLabelValues(f)
		cleanupFailures.WithLabelValues(f)
		m.deletedFlows.WithLabelValues(f)
		for _, policy := range []string{"internal", "external"} {
			m.noLocalEndpoints.WithLabelValues(policy, f)
		}
	}
	m.others = append(m.backlogMetrics(name), cleanupFailures)
	return m
}

// backlogMetrics returns those of changes, each of a Service counted once for each family as kube-proxy does.
func (m *kubeProxyMetrics) backlogMetrics(name func(string) string) []prometheus.Collector {
	now := func(count func(cluster.Backlog) int) func() float64 {
		return func() float64 {
			if read := m.backlog.Load(); read != nil {
				return float64(count((*read)()))
			}
			return 0
		}
	}
	gauge := func(s, help string, count func(cluster.Backlog) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(s), Help: help}, now(count))
	}
	counter := func(s, help string, count func(cluster.Backlog) int) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name(s), Help: help}, now(count))
	}
	return []prometheus.Collector{
		gauge("sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes", func(b cluster.Backlog) int { return b.Slices }),
		counter("sync_proxy_rules_endpoint_changes_total", "Cumulative proxy rules Endpoint changes", func(b cluster.Backlog) int { return b.AllSlices }),
		gauge("sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes", func(b cluster.Backlog) int { return b.Services }),
		counter("sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes", func(b cluster.Backlog) int { return len(rules.Families) * b.AllServices }),
	}
}

func (m *kubeProxyMetrics) collectors() []prometheus.Collector {
	return append([]prometheus.Collector{m.sync, m.fullSync, m.partialSync, m.lastSync, m.lastQueued, m.programming,
		m.syncFailures, m.noLocalEndpoints, m.reconcileFlows, m.deletedFlows}, m.others...)
}

// queued notes that something is to be done.
func (m *kubeProxyMetrics) queued() {
	for _, f := range familyLabels {
		m.lastQueued.WithLabelValues(f).SetToCurrentTime()
	}
}

// upToDate notes that nothing waits for a sync.
func (m *kubeProxyMetrics) upToDate() {
	for _, f := range familyLabels {
		m.lastSync.WithLabelValues(f).SetToCurrentTime()
	}
}

// took notes how long a sync took, whether it succeeded or not.
func (m *kubeProxyMetrics) took(full bool, start time.Time) {
	took, kind := time.Since(start).Seconds(), m.partialSync
	if full {
		kind = m.fullSync
	}
	for _, f := range familyLabels {
		m.sync.WithLabelValues(f).Observe(took)
		kind.WithLabelValues(f).Observe(took)
	}
}

// programmed notes when what was programmed just now was triggered. Another machine's clock says when: what it says will come
// yet tells nothing.
func (m *kubeProxyMetrics) programmed(triggers [2]cluster.Triggers) {
	now := time.Now()
	for i, f := range familyLabels {
		for _, times := range triggers[i] {
			for _, t := range times {
				if took := now.Sub(t); took >= 0 {
					m.programming.WithLabelValues(f).Observe(took.Seconds())
				}
			}
		}
	}
}

func (m *kubeProxyMetrics) failed() {
	for _, f := range familyLabels {
		m.syncFailures.WithLabelValues(f).Inc()
	}
}

// flows notes a clean-up of connection tracking, in the families that it was about.
func (m *kubeProxyMetrics) flows(took time.Duration, deleted conntrack.Deleted, targets []conntrack.Target) {
	for f, n := range [2]int{rules.IPv4: deleted.V4, rules.IPv6: deleted.V6} {
		if !slices.ContainsFunc(targets, func(t conntrack.Target) bool { return rules.FamilyOf(t.Addr) == rules.Family(f) }) { //nolint:gosec // one of the two families
			continue
		}
		m.reconcileFlows.WithLabelValues(familyLabels[f]).Observe(took.Seconds())
		m.deletedFlows.WithLabelValues(familyLabels[f]).Add(float64(n))
	}
}
