// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// showRestart kills nftproxy and starts it again while connections are made to all
// services that answered as they should. Nothing of it may be noticed.
func (d *demo) showRestart(ctx context.Context, rows []row) error {
	origins := origins(d.cluster)
	targets := healthy(rows, len(origins))
	if len(targets) == 0 {
		return nil
	}
	d.heading("kill -9 of nftproxy under load")
	l, err := startLoad(ctx, origins, targets)
	if err != nil {
		return err
	}
	without, programmed, err := d.killAndRestart(ctx, l)
	l.end()
	if err != nil {
		return err
	}
	d.say("The node was without nftproxy for %s; the new one was ready after %s.", brief(without), brief(programmed))
	d.sayLoad(l)
	return nil
}

// healthy returns the targets that have backends and are as they should be from
// all origins.
func healthy(rows []row, origins int) []target {
	var list []target
	for _, r := range rows {
		if r.ok && len(r.backends) > 0 && len(r.from) == origins {
			list = append(list, r.target)
		}
	}
	return list
}

// killAndRestart returns how long no nftproxy ran, and how long the new one took
// to be ready.
func (d *demo) killAndRestart(ctx context.Context, l *load) (without, programmed time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, netns.Patience())
	defer cancel()
	if err := l.goOn(ctx); err != nil {
		return 0, 0, err
	}
	killed := time.Now()
	d.nftproxy.Kill()
	if err := l.goOn(ctx); err != nil {
		return 0, 0, err
	}
	started := time.Now()
	if err := d.startProxy(); err != nil {
		return 0, 0, err
	}
	if err := d.nftproxy.WaitSynced(ctx); err != nil {
		return 0, 0, err
	}
	programmed = time.Since(started)
	return started.Sub(killed), programmed, l.goOn(ctx)
}

// sayLoad says what became of the load, new connections and open ones.
func (d *demo) sayLoad(l *load) {
	var made, asked int
	var faults, lost []string
	for _, n := range l.newcomers {
		steps := int(n.steps.Load())
		made += steps
		if verdict, ok := n.verdict(n.tally, steps); !ok {
			faults = append(faults, fmt.Sprintf("%s %s %s: %s", n.service, n.protocol, n.address, d.names.named(verdict, n.target)))
		}
	}
	for _, r := range l.regulars {
		asked += r.Asked
		if r.Lost != nil {
			lost = append(lost, fmt.Sprintf("a connection that was open was lost: %v", r.Lost))
		}
	}
	d.connections += made + len(l.regulars)
	d.sayVerdict(fmt.Sprintf("%s meanwhile", count(made, "new connection")), "none lost, "+roundRobin+" throughout", faults)
	if len(l.regulars) > 0 {
		d.sayVerdict(fmt.Sprintf("%s with %s", count(len(l.regulars), "open connection"), count(asked, "request")),
			"none lost, always the same backend", lost)
	}
}

func (d *demo) sayVerdict(what, good string, faults []string) {
	ok := len(faults) == 0
	text := good
	if !ok {
		text = strings.Join(faults, "; ")
	}
	d.say("%s: %s", what, d.mark(text, ok))
	d.tally(ok)
}
