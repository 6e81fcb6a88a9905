// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// errTooSlow is that of a proxy that does not have all Services programmed in time.
var errTooSlow = errors.New("not all Services are programmed in time")

// endpoints is how many every Service has.
const endpoints = 10

// runner measures one peer at one size, in one round.
type runner struct {
	plan  report.Plan
	site  *site
	peer  peer
	size  int
	round int

	proxy    *proxy.Process // nil while it does not run
	group    memoryGroup    // of the proxy; may be none
	children *children      // of the proxy
	moves    int            // of the probe

	measurements []report.Measurement
	failures     []report.Failure
}

// run measures everything. What was measured before an error counts.
func (r *runner) run(ctx context.Context) (err error) {
	if err := r.site.clear(); err != nil {
		return err
	}
	defer func() {
		if err := r.stop(); err != nil {
			r.fail("stop", err)
		}
		err = errors.Join(err, r.site.clear())
	}()
	if err := r.peer.check(); err != nil {
		r.fail("start", err)
		return nil
	}
	for _, m := range []struct {
		name  string
		wants bool
		fn    func(context.Context) error
	}{
		{"start", true, r.start},
		{"control plane", r.controls(), r.control},
		{"data plane", slices.Contains(r.plan.DataSizes, r.size), r.data},
		{"fairness", !r.peer.packets && r.size == r.plan.Sizes[0], r.fairness},
		{"disruption", !r.peer.packets && slices.Contains(r.plan.DisruptionSizes, r.size), r.disruption},
		{"rolling update", !r.peer.packets && slices.Contains(r.plan.RollSizes, r.size), r.roll},
		{"floor", r.controls() && r.peer.name == report.Nftproxy, func(ctx context.Context) error {
			return errors.Join(r.stop(), r.floor(ctx))
		}},
	} {
		if !m.wants {
			continue
		}
		if err := m.fn(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.fail(m.name, fmt.Errorf("%w%s", err, r.lastWords()))
			return nil // the other peers are not to blame
		}
	}
	return nil
}

// controls says whether the control plane is measured at this size.
func (r *runner) controls() bool {
	return !r.peer.packets && slices.Contains(r.plan.ControlSizes, r.size)
}

// add notes samples of the runner's peer.
func (r *runner) add(metric, target string, samples ...float64) {
	r.measured(r.peer.name, metric, target, samples...)
}

func (r *runner) measured(peer, metric, target string, samples ...float64) {
	for i := range r.measurements {
		m := &r.measurements[i]
		if m.Metric == metric && m.Peer == peer && m.Target == target {
			m.Samples = append(m.Samples, samples...)
			return
		}
	}
	r.measurements = append(r.measurements, report.Measurement{
		Metric: metric, Peer: peer, Services: r.size, Target: target, Round: r.round, Samples: samples})
}

// fail notes what could not be measured.
func (r *runner) fail(step string, err error) {
	r.failures = append(r.failures, report.Failure{Peer: r.peer.name, Services: r.size, Step: step, Error: err.Error(),
		TooSlow: errors.Is(err, errTooSlow)})
}

// lastWords are the last lines of the proxy's log.
func (r *runner) lastWords() string {
	if r.proxy == nil {
		return ""
	}
	log := r.proxy.Log()
	return "; its log ends: " + log[max(0, len(log)-1000):]
}

// inPod runs fn on a thread in the namespace of the client's pod.
func (r *runner) inPod(fn func() error) error { return r.site.Client.Do(fn) }
