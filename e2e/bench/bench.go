// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
)

// bench is a run: what is to be measured, and what was.
type bench struct {
	peers   []peer
	out     string // folder
	results *report.Results
}

// newBench begins a run, or takes up the one whose results are in the folder.
func newBench(plan report.Plan, exe programs, out string, resume bool) (*bench, error) {
	for _, file := range []*string{&exe.nftproxy, &exe.kubeProxy} {
		if _, err := os.Stat(*file); err != nil {
			return nil, fmt.Errorf("find the executables (make bench builds them): %w", err)
		}
		var err error
		if *file, err = filepath.Abs(*file); err != nil {
			return nil, err
		}
	}
	b := &bench{peers: peers(exe), out: out,
		results: &report.Results{Began: time.Now().UTC().Truncate(time.Second), Plan: plan, Machine: report.ThisMachine(exe.nftproxy)}}
	if !resume {
		return b, nil
	}
	old, err := report.Load(filepath.Join(out, report.ResultsFile))
	if err != nil {
		return nil, fmt.Errorf("resume: %w", err)
	}
	if !reflect.DeepEqual(old.Plan, plan) || !reflect.DeepEqual(old.Machine, b.results.Machine) {
		return nil, fmt.Errorf("resume: %s is from another plan, machine or version: begin anew, without -resume", out)
	}
	b.results = old
	return b, nil
}

// run measures what is missing and writes the report, also when it is interrupted.
func (b *bench) run(ctx context.Context, log io.Writer) (err error) {
	p := &progress{log: log, steps: b.steps()}
	defer func() {
		if len(b.results.Steps) > 0 {
			err = errors.Join(err, report.Write(b.out, b.results))
			fmt.Fprintf(log, "%s\n", filepath.Join(b.out, "index.html"))
		}
		if ctx.Err() == nil {
			return
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if len(b.results.Steps) == 0 {
			err = fmt.Errorf("interrupted before the first step had ended; nothing is kept: %w", err)
		} else {
			err = fmt.Errorf("interrupted; the steps that had ended are kept, and -resume goes on: %w", err)
		}
	}()
	if p.left() == 0 {
		return nil
	}
	fmt.Fprintln(log, "starting the control plane")
	s, err := newSite(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for i := range p.steps {
		if p.steps[i].done {
			continue
		}
		if err := b.step(ctx, s, p, &p.steps[i]); err != nil {
			return err
		}
	}
	return nil
}

// step is one peer at one size in one round.
type step struct {
	peer        peer
	size, round int
	done        bool
}

func (s step) name() string { return fmt.Sprintf("%d/%d/%s", s.size, s.round, s.peer.name) }

// steps lists all of them. Sizes rise, because Services are only added; every second
// round goes backwards through the peers.
func (b *bench) steps() []step {
	var out []step
	for _, size := range b.results.Plan.Sizes {
		for round := range b.results.Plan.Rounds {
			list := slices.Clone(b.peers)
			if round%2 == 1 {
				slices.Reverse(list)
			}
			for _, p := range list {
				if p.packets && !slices.Contains(b.results.Plan.DataSizes, size) {
					continue
				}
				s := step{peer: p, size: size, round: round}
				s.done = slices.Contains(b.results.Steps, s.name())
				out = append(out, s)
			}
		}
	}
	return out
}

// step runs one step and saves what it measured. It fails only if the others cannot go on.
func (b *bench) step(ctx context.Context, s *site, p *progress, st *step) error {
	begin := time.Now()
	p.begin(st)
	r := &runner{plan: b.results.Plan, site: s, peer: st.peer, size: st.size, round: st.round}
	if why := b.tooSlow(st); why != nil {
		r.fail(report.NotTried, why)
	} else {
		if err := s.grow(ctx, st.size); err != nil {
			return fmt.Errorf("create %d Services: %w", st.size, err)
		}
		if err := r.run(ctx); err != nil {
			return err
		}
	}
	for _, f := range r.failures {
		fmt.Fprintf(p.log, "         not measured: %s: %s\n", f.Step, f.Error)
	}
	b.results.Measurements = append(b.results.Measurements, r.measurements...)
	b.results.Failures = append(b.results.Failures, r.failures...)
	b.results.Steps = append(b.results.Steps, st.name())
	b.results.Took += time.Since(begin)
	st.done = true
	p.ended(st, time.Since(begin))
	return b.results.Save(b.out)
}

// tooSlow says whether a peer did not make it in time with fewer Services, or in an earlier round.
func (b *bench) tooSlow(st *step) error {
	for _, f := range b.results.Failures {
		if f.Peer == st.peer.name && f.TooSlow {
			return fmt.Errorf("with %d Services: %s", f.Services, f.Error)
		}
	}
	return nil
}
