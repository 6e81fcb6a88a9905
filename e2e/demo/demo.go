// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// demo is one run: what it shows on, what it runs, and what it has found.
type demo struct {
	options
	screen
	log logTap // of nftproxy

	dir       string // of all files
	cluster   *netns.Cluster
	names     podNames
	servers   []*traffic.Server
	manifests proxy.Manifests
	nftproxy  *proxy.Process

	verdicts, wrong, connections int
}

// show runs the demo and returns the exit code: 0 if everything was as it should
// be. When ctx ends it stops, or, with --keep and all shown, it is done.
func show(ctx context.Context, o options, stdout, stderr io.Writer) int {
	d := &demo{options: o, screen: newScreen(stdout), log: logTap{to: stdout}}
	start := time.Now()
	targets, err := d.setUp()
	if err == nil {
		err = d.play(ctx, targets)
	}
	if err == nil {
		d.summarize(time.Since(start))
		if d.wrong > 0 {
			fmt.Fprintf(stderr, "demo: the log of nftproxy:\n%s", d.nftproxy.Log())
		}
		d.stay(ctx, targets)
	}
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("interrupted (%w); everything is removed", context.Cause(ctx))
	}
	if err = errors.Join(err, d.tearDown(ctx.Err() != nil)); err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
	}
	if err != nil || d.wrong > 0 {
		return 1
	}
	return 0
}

// play shows one thing after the other.
func (d *demo) play(ctx context.Context, targets []target) error {
	d.picture()
	if err := d.start(ctx); err != nil {
		return err
	}
	rows, err := d.showServices(ctx, targets)
	if err != nil {
		return err
	}
	if d.from == "" { // the changes are to the built-in ones
		if err := d.showChanges(ctx); err != nil {
			return err
		}
	}
	if err := d.showRestart(ctx, rows); err != nil {
		return err
	}
	d.tallyBroken()
	return nil
}

// start starts nftproxy, waits until it has programmed the services and says how
// long that took.
func (d *demo) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, netns.Patience())
	defer cancel()
	start := time.Now()
	if err := d.startProxy(); err != nil {
		return err
	}
	if err := d.nftproxy.WaitSynced(ctx); err != nil {
		return err
	}
	d.heading("nftproxy is started on the node: all services are programmed after %s", brief(time.Since(start)))
	return nil
}

func (d *demo) showServices(ctx context.Context, targets []target) ([]row, error) {
	d.heading("New connections to every service, from a pod, from the node itself and from outside")
	rows, err := d.measure(ctx, targets)
	if err != nil {
		return nil, err
	}
	d.table(rows)
	return rows, nil
}

// tally counts a verdict.
func (d *demo) tally(ok bool) {
	d.verdicts++
	if !ok {
		d.wrong++
	}
}

// tallyBroken shows packets that came to backends broken, if any did.
func (d *demo) tallyBroken() {
	for _, s := range d.servers {
		for _, err := range s.Bad() {
			d.say("%s", d.mark("a backend got a broken packet: "+err.Error(), false))
			d.tally(false)
		}
	}
}

func (d *demo) summarize(took time.Duration) {
	text := fmt.Sprintf("All %d verdicts are as they should be", d.verdicts)
	if d.wrong > 0 {
		text = fmt.Sprintf("%d of %d verdicts are WRONG", d.wrong, d.verdicts)
	}
	d.say("\n%s: %s in %s.", d.mark(text, d.wrong == 0), count(d.connections, "connection"), brief(took))
}
