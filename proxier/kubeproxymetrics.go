// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

// kubeProxyMetrics are those of kube-proxy's nftables mode (1.37), under its names and
// labels, so that dashboards and alerts keep working. Both families are programmed
// together, so what is not about a family has the same values for both.
type kubeProxyMetrics struct {
	sync, fullSync, partialSync *prometheus.HistogramVec
	lastSync, lastQueued        *prometheus.GaugeVec
	programming                 *prometheus.HistogramVec
	endpointsPending            prometheus.Gauge
	endpointsTotal              prometheus.Counter
	servicesPending             prometheus.Gauge
	servicesTotal               prometheus.Counter
	syncFailures                *prometheus.CounterVec
	cleanupFailures             *prometheus.CounterVec
	noLocalEndpoints            *prometheus.GaugeVec
	reconcileFlows              *prometheus.HistogramVec
	deletedFlows                *prometheus.CounterVec
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
	m := &kubeProxyMetrics{
		sync:             histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", seconds),
		fullSync:         histogram("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", seconds),
		partialSync:      histogram("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", seconds),
		lastSync:         gauge("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", family...),
		lastQueued:       gauge("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", family...),
		programming:      histogram("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", programming),
		endpointsPending: prometheus.NewGauge(prometheus.GaugeOpts{Name: name("sync_proxy_rules_endpoint_changes_pending"), Help: "Pending proxy rules Endpoint changes"}),
		endpointsTotal:   prometheus.NewCounter(prometheus.CounterOpts{Name: name("sync_proxy_rules_endpoint_changes_total"), Help: "Cumulative proxy rules Endpoint changes"}),
		servicesPending:  prometheus.NewGauge(prometheus.GaugeOpts{Name: name("sync_proxy_rules_service_changes_pending"), Help: "Pending proxy rules Service changes"}),
		servicesTotal:    prometheus.NewCounter(prometheus.CounterOpts{Name: name("sync_proxy_rules_service_changes_total"), Help: "Cumulative proxy rules Service changes"}),
		syncFailures:     counter("sync_proxy_rules_nftables_sync_failures_total", "Cumulative proxy nftables sync failures"),
		cleanupFailures:  counter("sync_proxy_rules_nftables_cleanup_failures_total", "Cumulative proxy nftables cleanup failures"),
		noLocalEndpoints: gauge("sync_proxy_rules_no_local_endpoints_total", "Number of services with a Local traffic policy and no endpoints", "traffic_policy", "ip_family"),
		reconcileFlows:   histogram("conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds", seconds),
		deletedFlows:     counter("conntrack_reconciler_deleted_entries_total", "Cumulative conntrack flows deleted by conntrack reconciler"),
	}
	for _, f := range familyLabels { // counters are there from the start
		m.reconcileFlows.WithLabelValues(f)
		m.programming.WithLabelValues(f)
		m.syncFailures.WithLabelValues(f)
		m.cleanupFailures.WithLabelValues(f)
		m.deletedFlows.WithLabelValues(f)
		for _, policy := range []string{"internal", "external"} {
			m.noLocalEndpoints.WithLabelValues(policy, f)
		}
	}
	return m
}

func (m *kubeProxyMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.sync, m.fullSync, m.partialSync, m.lastSync, m.lastQueued, m.programming, m.endpointsPending, m.endpointsTotal,
		m.servicesPending, m.servicesTotal, m.syncFailures, m.cleanupFailures, m.noLocalEndpoints, m.reconcileFlows, m.deletedFlows}
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
func (m *kubeProxyMetrics) programmed(triggers [2]triggers) {
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
		if !slices.ContainsFunc(targets, func(t conntrack.Target) bool { return rules.FamilyOf(t.Addr) == rules.Family(f) }) {
			continue
		}
		m.reconcileFlows.WithLabelValues(familyLabels[f]).Observe(took.Seconds())
		m.deletedFlows.WithLabelValues(familyLabels[f]).Add(float64(n))
	}
}

// pending is what came in since the last sync. Guarded by Proxier.mu.
type pending struct {
	services  map[objectName]struct{}
	endpoints int
	triggers  [2]triggers // by family
}

// triggers are when Pods or Services changed, as the EndpointSlices say that came of that, by
// Service.
type triggers map[objectName][]time.Time

func newPending() pending {
	return pending{services: map[objectName]struct{}{}, triggers: [2]triggers{{}, {}}}
}

// putService stores a Service, or with nil forgets it, and counts the change, once for each family
// as kube-proxy does. p.mu is held.
func (p *Proxier) putService(n objectName, s *service) {
	m := p.config.Metrics.kubeProxy
	m.servicesTotal.Add(float64(len(rules.Families)))
	if p.store.setService(n, s) {
		p.pending.services[n] = struct{}{}
		m.servicesPending.Set(float64(len(p.pending.services)))
	}
}

// putSlice stores an EndpointSlice, or with nil forgets it, and counts the change. trigger is the
// time in its annotation: it counts if the slice has changed, so not when all are listed again,
// and if that was after this Proxier began. p.mu is held.
func (p *Proxier) putSlice(n objectName, s *slice, trigger string) {
	m := p.config.Metrics.kubeProxy
	old := p.store.slices[n]
	if old == nil && s == nil {
		return
	}
	m.endpointsTotal.Inc()
	if !p.store.setSlice(n, s) {
		return
	}
	p.pending.endpoints++
	m.endpointsPending.Set(float64(p.pending.endpoints))
	if s == nil {
		// What triggered that is not known. It is not what triggered changes before.
		delete(p.pending.triggers[old.family], old.service)
		return
	}
	if t, err := time.Parse(time.RFC3339Nano, trigger); err == nil && t.After(p.began) {
		of := p.pending.triggers[s.family]
		of[s.service] = append(of[s.service], t)
	}
}

// takePending returns what came in and counts anew.
func (p *Proxier) takePending() pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.pending
	p.pending = newPending()
	p.config.Metrics.kubeProxy.servicesPending.Set(0)
	p.config.Metrics.kubeProxy.endpointsPending.Set(0)
	return out
}

// putBackPending is for a sync that failed.
func (p *Proxier) putBackPending(was pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(p.pending.services, was.services)
	p.pending.endpoints += was.endpoints
	for f, of := range was.triggers {
		for n, times := range of {
			p.pending.triggers[f][n] = append(times, p.pending.triggers[f][n]...)
		}
	}
	p.config.Metrics.kubeProxy.servicesPending.Set(float64(len(p.pending.services)))
	p.config.Metrics.kubeProxy.endpointsPending.Set(float64(p.pending.endpoints))
}

// noLocal is which traffic policies of an owner find no endpoint on this node.
type noLocal struct{ internal, external bool }

// countNoLocal notes whether the policy Local leaves a service port without endpoints
// here, while there are some elsewhere. p.mu is held.
func (p *Proxier) countNoLocal(o rules.Owner, sp *rules.ServicePort, endpoints []rules.Endpoint) {
	var now noLocal
	if sp.Port != 0 && (sp.InternalLocal || sp.ExternalLocal) {
		u := rules.SelectEndpoints(sp, endpoints, &p.programmedNode)
		none := u.Anywhere && len(u.Local) == 0
		now = noLocal{internal: none && sp.InternalLocal, external: none && sp.ExternalLocal && sp.External()}
	}
	was := p.noLocal[o]
	if was == now {
		return
	}
	if p.noLocal[o] = now; now == (noLocal{}) {
		delete(p.noLocal, o)
	}
	for policy, change := range map[string][2]bool{"internal": {was.internal, now.internal}, "external": {was.external, now.external}} {
		gauge := p.config.Metrics.kubeProxy.noLocalEndpoints.WithLabelValues(policy, familyLabels[o.Family])
		switch {
		case change[1] && !change[0]:
			gauge.Inc()
		case change[0] && !change[1]:
			gauge.Dec()
		}
	}
}
