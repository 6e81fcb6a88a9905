// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
)

// Connections reads the kernel's counters of new connections when it is asked. A
// counter begins anew where its element is replaced, which sets it to zero: what it had come to at the
// last reading is kept.
type Connections struct {
	log klog.Logger
	// read reads the kernel's counters.
	read func() ([]inspect.Connections, error)
	// portAt names who has a frontend.
	portAt func(rules.Frontend) (rules.ServicePortName, bool)

	mu     sync.Mutex
	last   map[counted]uint64
	totals map[ownerProtocol]uint64
}

// NewConnections returns the collector for the tables of a name. portAt names who has a frontend.
func NewConnections(log klog.Logger, table string, portAt func(rules.Frontend) (rules.ServicePortName, bool)) *Connections {
	return &Connections{log: log, portAt: portAt, read: func() ([]inspect.Connections, error) { return readConnections(table) }}
}

// counted is an element with a counter.
type counted struct {
	family rules.Family
	set    rules.SetID
	key    rules.Key
}

type ownerProtocol struct {
	rules.Owner
	protocol rules.Protocol
}

// connectionsDesc has as many series as there are service ports.
var connectionsDesc = prometheus.NewDesc("nftproxy_service_connections_total",
	"New connections that came to a service port that has endpoints, at any of its addresses.",
	[]string{"namespace", "service", "port", "protocol"}, nil)

// Describe implements prometheus.Collector.
func (c *Connections) Describe(ch chan<- *prometheus.Desc) { ch <- connectionsDesc }

// Collect implements prometheus.Collector.
func (c *Connections) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock() // before the reading: the next one must not be counted first
	defer c.mu.Unlock()
	list, err := c.read()
	if err != nil {
		c.log.Error(err, "Metrics about connections are missing")
		return
	}
	c.count(list)
	totals := map[ownerProtocol]uint64{} // of both families
	for port, n := range c.totals {
		port.Family = 0
		totals[port] += n
	}
	for port, n := range totals {
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.CounterValue, float64(n),
			port.Namespace, port.Name, port.Port, port.protocol.String())
	}
}

// Totals reads the counters, and returns how many new connections came to each service port in a family since this began to count.
func (c *Connections) Totals() (map[rules.Owner]uint64, error) {
	c.mu.Lock() // as in Collect
	defer c.mu.Unlock()
	list, err := c.read()
	if err != nil {
		return nil, err
	}
	c.count(list)
	out := make(map[rules.Owner]uint64, len(c.totals))
	for port, n := range c.totals {
		out[port.Owner] += n
	}
	return out, nil
}

// readConnections reads the counters of a table.
func readConnections(table string) ([]inspect.Connections, error) {
	i, err := inspect.Open() // of its own: a reading of large maps must not hold up commits
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close() }()
	return i.Connections(table)
}

// count adds what the counters have gained, and forgets service ports that are gone.
func (c *Connections) count(list []inspect.Connections) {
	last, totals := make(map[counted]uint64, len(list)), make(map[ownerProtocol]uint64, len(c.totals))
	for _, e := range list {
		name, ok := c.portAt(e.Key.Frontend(e.Family))
		if !ok {
			continue
		}
		port := ownerProtocol{rules.Owner{ServicePortName: name, Family: e.Family}, e.Protocol}
		if _, seen := totals[port]; !seen {
			totals[port] = c.totals[port]
		}
		if e.Refuses() {
			continue
		}
		id := counted{e.Family, e.Set, e.Key}
		last[id] = e.Packets
		if before := c.last[id]; e.Packets >= before {
			totals[port] += e.Packets - before
		} else {
			totals[port] += e.Packets
		}
	}
	c.last, c.totals = last, totals
}
