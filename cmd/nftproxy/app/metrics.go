// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/proxier/health"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// servers are the HTTP servers of a run.
type servers []*http.Server

// Close ends them.
func (s servers) Close() {
	for _, server := range s {
		_ = server.Close()
	}
}

// serve serves health, metrics and what else kube-proxy shows. An address that cannot
// be had costs what would have been served there only, unless --bind-address-hard-fail.
func (o *runOptions) serve(log klog.Logger, alive *health.Proxy, own ...prometheus.Collector) (servers, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), alive)
	registry.MustRegister(own...)
	registry.MustRegister(clientMetrics()...)
	var all servers
	for _, s := range []struct {
		address, what string
		handler       http.Handler
	}{
		{o.healthzAddress, "No health is served; choose another --healthz-bind-address", alive.Handler()},
		{o.metricsAddress, "No metrics are served; choose another --metrics-bind-address", o.statusPages(registry)},
	} {
		if s.address == "" {
			continue
		}
		address := s.address
		if host, port, err := net.SplitHostPort(address); err == nil && host == "0.0.0.0" {
			address = ":" + port // IPv6, too: a node may have nothing else
		}
		l, err := net.Listen("tcp", address)
		switch {
		case err != nil && o.hardFail:
			all.Close()
			return nil, fmt.Errorf("--bind-address-hard-fail: %w", err)
		case err != nil:
			log.Error(err, s.what)
			continue
		}
		server := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = server.Serve(l) }()
		all = append(all, server)
	}
	return all, nil
}

// affinityCollector counts clients with session affinity when it is asked.
type affinityCollector struct {
	table string
	log   klog.Logger
}

// Describe implements prometheus.Collector: its metrics are not known before.
func (affinityCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c affinityCollector) Collect(ch chan<- prometheus.Metric) {
	labels := []string{"family", "map"}
	clients := prometheus.NewDesc("nftproxy_affinity_clients", "Clients that a service port with session affinity remembers.", labels, nil)
	size := prometheus.NewDesc("nftproxy_affinity_size", "Clients that it can remember.", labels, nil)
	k, err := kernel.Open() // of its own: a reading of large maps must not hold up commits
	if err != nil {
		c.log.Error(err, "Metrics about session affinity are missing")
		return
	}
	defer func() { _ = k.Close() }()
	usage, err := k.AffinityUsage(c.table)
	if err != nil {
		c.log.Error(err, "Metrics about session affinity are missing")
		return
	}
	for _, u := range usage {
		ch <- prometheus.MustNewConstMetric(clients, prometheus.GaugeValue, float64(u.Clients), u.Family.String(), u.Map)
		ch <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(u.Size), u.Family.String(), u.Map)
	}
}
