// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules/inspect"
)

// Affinity counts clients with session affinity when it is asked.
type Affinity struct {
	// Table is the name of the tables whose maps are read.
	Table string
	Log   klog.Logger
}

// Describe implements prometheus.Collector: its metrics are not known before.
func (Affinity) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c Affinity) Collect(ch chan<- prometheus.Metric) {
	labels := []string{"family", "map"}
	clients := prometheus.NewDesc("nftproxy_affinity_clients", "Clients that a service port with session affinity remembers; those of endpoints that are gone until they connect again.", labels, nil)
	size := prometheus.NewDesc("nftproxy_affinity_size", "Clients that it can remember.", labels, nil)
	i, err := inspect.Open() // of its own: a reading of large maps must not hold up commits
	if err != nil {
		c.Log.Error(err, "Metrics about session affinity are missing")
		return
	}
	defer func() { _ = i.Close() }()
	usage, err := i.AffinityUsage(c.Table)
	if err != nil {
		c.Log.Error(err, "Metrics about session affinity are missing")
		return
	}
	for _, u := range usage {
		ch <- prometheus.MustNewConstMetric(clients, prometheus.GaugeValue, float64(u.Clients), u.Family.String(), printable.Word(u.Map))
		ch <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(u.Size), u.Family.String(), printable.Word(u.Map))
	}
}
