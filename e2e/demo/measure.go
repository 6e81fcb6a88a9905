// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	rounds       = 2 // how often each backend is to answer each client
	sideBySide   = 6 // targets at a time; one after the other would hide that they must not disturb each other
	refusedTries = 2 // connections of each client to a service without backends
)

// origin is where connections come from.
type origin struct {
	name string
	*netns.NS
}

// origins returns a pod, the node itself, and a host that is not in the cluster.
func origins(c *netns.Cluster) []origin {
	return []origin{{"pod", c.Client.NS}, {"node", c.Node.NS}, {"outside", c.Outside.NS}}
}

// row is what came of connections to a target.
type row struct {
	target
	from        []string
	connections int
	hits        traffic.Hits
	slowest     time.Duration // of the connections
	verdict     string
	ok          bool
}

// measure connects to all targets from everywhere.
func (d *demo) measure(ctx context.Context, targets []target) ([]row, error) {
	results := make([][]row, len(targets))
	slots := make(chan struct{}, sideBySide)
	var running sync.WaitGroup
	for i, t := range targets {
		slots <- struct{}{}
		running.Go(func() {
			results[i] = d.measureOne(ctx, t)
			<-slots
		})
	}
	running.Wait()
	return slices.Concat(results...), ctx.Err()
}

// measureOne connects to a target from everywhere. Each client counts by itself;
// equal results share a row.
func (d *demo) measureOne(ctx context.Context, t target) []row {
	n := max(rounds*len(t.backends), refusedTries)
	var rows []row
	for _, from := range origins(d.cluster) {
		r := try(ctx, from, t, n)
		if same := slices.IndexFunc(rows, r.like); same >= 0 {
			rows[same].add(r)
		} else {
			rows = append(rows, r)
		}
	}
	return rows
}

// try makes n connections, one after the other.
func try(ctx context.Context, from origin, t target, n int) row {
	r := row{target: t, from: []string{from.name}, connections: n}
	client := t.client(from.NS)
	tally, _ := traffic.Spread(ctx, n, func(ctx context.Context) traffic.Result { // the caller looks at ctx
		result := client.Connect(ctx, t.protocol, t.address)
		r.slowest = max(r.slowest, result.Elapsed)
		return result
	})
	r.hits = tally.Hits
	r.verdict, r.ok = t.verdict(tally, n)
	return r
}

// like tells whether two rows of a target say the same.
func (r row) like(other row) bool { return r.verdict == other.verdict && r.ok == other.ok }

func (r *row) add(other row) {
	r.from = append(r.from, other.from...)
	r.connections += other.connections
	r.slowest = max(r.slowest, other.slowest)
	for b, n := range other.hits {
		r.hits[b] += n
	}
}
