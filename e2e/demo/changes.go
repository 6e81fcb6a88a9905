// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// change replaces the manifest with the web service's endpoints.
type change struct {
	what            string
	directory, file string // in embedded
}

func changes() []change {
	return []change{
		{"p2 becomes a backend of web", "changes", "add.yaml"},
		{"p1 is taken away", "changes", "remove.yaml"},
		{"all backends of web go away", "changes", "empty.yaml"},
		{"p1, p3 and p4 are back", "manifests", endpointsFile},
	}
}

// showChanges replaces a manifest while nftproxy runs and shows what comes of it.
func (d *demo) showChanges(ctx context.Context) error {
	d.heading("The manifests change (nftproxy waits 20 ms after the last write to a file)")
	for _, c := range changes() {
		if err := d.showChange(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}

func (d *demo) showChange(ctx context.Context, c change) error {
	before, err := readTargets(d.manifests.Dir)
	if err != nil {
		return err
	}
	data, err := builtIn(c.directory, c.file)
	if err != nil {
		return err
	}
	start := time.Now()
	if err = d.manifests.Write(endpointsFile, data); err != nil {
		return err
	}
	after, err := readTargets(d.manifests.Dir)
	if err != nil {
		return err
	}
	targets := changed(before, after)
	inEffect := d.waitEffect(ctx, targets)
	took := time.Since(start)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.tally(inEffect)
	d.heading("%s: %s %s after the file was written", c.what, effect(inEffect), brief(took))
	rows, err := d.measure(ctx, targets)
	if err != nil {
		return err
	}
	d.table(rows)
	d.sayRefusal(rows)
	return nil
}

func effect(yes bool) string {
	if yes {
		return "in effect"
	}
	return "NOT in effect"
}

// sayRefusal says how soon clients heard that their connections are refused.
func (d *demo) sayRefusal(rows []row) {
	var slowest time.Duration
	for _, r := range rows {
		if len(r.backends) > 0 || !r.ok || r.unheard() {
			return
		}
		slowest = max(slowest, r.slowest)
	}
	d.say("Every client heard 'connection refused' within %s.", brief(slowest))
}

// waitEffect connects until all targets answer as they should. It gives up at the
// deadline, or when ctx ends.
func (d *demo) waitEffect(ctx context.Context, targets []target) bool {
	ctx, cancel := context.WithTimeout(ctx, netns.Patience())
	defer cancel()
	var running sync.WaitGroup
	for _, t := range targets {
		running.Go(func() {
			for !d.inEffect(ctx, t) && ctx.Err() == nil {
			}
		})
	}
	running.Wait()
	return ctx.Err() == nil
}

// inEffect tells whether connections from a pod go where they should. It makes
// twice as many as there are backends: a round of fewer could miss one that was
// taken away by chance.
func (d *demo) inEffect(ctx context.Context, t target) bool {
	client := traffic.Client{NS: d.cluster.Client.NS, Timeout: silence}
	n := max(rounds*len(t.backends), 1)
	tally, err := traffic.Spread(ctx, n, func(ctx context.Context) traffic.Result {
		return client.Connect(ctx, t.protocol, t.address)
	})
	_, ok := t.verdict(tally, n)
	return err == nil && ok
}
