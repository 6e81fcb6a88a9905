// SPDX-License-Identifier: Apache-2.0

package app

import (
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/rules/kernel"
)

// serveMetrics serves /metrics at an address.
func serveMetrics(address string, log klog.Logger, own ...prometheus.Collector) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(own...)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	serveHTTP(address, log, "No metrics are served; choose another --metrics-bind-address", mux)
}

// serveHTTP serves at an address, unless that is empty, until the process ends. A
// port that is taken costs what would have been served only.
func serveHTTP(address string, log klog.Logger, otherwise string, handler http.Handler) {
	if address == "" {
		return
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		log.Error(err, otherwise)
		return
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
}

// affinityCollector counts clients with session affinity when it is asked.
type affinityCollector struct {
	kernel *kernel.Kernel
	table  string
	log    klog.Logger
}

// Describe implements prometheus.Collector: its metrics are not known before.
func (affinityCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c affinityCollector) Collect(ch chan<- prometheus.Metric) {
	labels := []string{"family", "map"}
	clients := prometheus.NewDesc("nftproxy_affinity_clients", "Clients that a service port with session affinity remembers.", labels, nil)
	size := prometheus.NewDesc("nftproxy_affinity_size", "Clients that it can remember.", labels, nil)
	usage, err := c.kernel.AffinityUsage(c.table)
	if err != nil {
		c.log.Error(err, "Metrics about session affinity are missing")
		return
	}
	for _, u := range usage {
		ch <- prometheus.MustNewConstMetric(clients, prometheus.GaugeValue, float64(u.Clients), u.Family.String(), u.Map)
		ch <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(u.Size), u.Family.String(), u.Map)
	}
}
