// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
	"github.com/nftproxy/nftproxy/e2e/controlplane"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// executables are built by make e2e.
var executables = programs{"../../bin/nftproxy", "../../bin/kube-proxy"}

// actEnv makes the test's executable act as bench.
const actEnv = "NFTPROXY_TEST_BENCH"

func TestMain(m *testing.M) {
	controlplane.RunChild()
	if os.Getenv(actEnv) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSmallest runs the whole harness, with everything as small as can be.
func TestSmallest(t *testing.T) {
	for _, name := range []string{"nft", "iptables", "iptables-save", "iptables-restore"} {
		netnstest.Tool(t, name)
	}
	dir := t.TempDir()
	b, err := newBench(smallestPlan(), executables, dir, false)
	must(t, err)
	log := &bytes.Buffer{}
	must(t, b.run(t.Context(), log))
	t.Logf("its output:\n%s", log)
	r, err := report.Load(filepath.Join(dir, report.ResultsFile))
	must(t, err)
	for _, f := range r.Failures {
		if f.Step == "memory-kernel" { // not every machine lets control groups be made
			t.Logf("not measured: %+v", f)
			continue
		}
		t.Errorf("not measured: %+v", f)
	}
	wantEverything(t, r)
	for _, file := range []string{"index.html", "summary.md"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
	// Nothing is left to measure, so that going on takes no network.
	again, err := newBench(smallestPlan(), executables, dir, true)
	must(t, err)
	must(t, again.run(t.Context(), log))
	if got := len(again.results.Measurements); got != len(r.Measurements) {
		t.Errorf("%d measurements after it went on, want %d", got, len(r.Measurements))
	}
}

// wantEverything checks that each metric has samples of each proxy, at the sizes of the plan.
func wantEverything(t *testing.T, r *report.Results) {
	t.Helper()
	for _, m := range report.Metrics() {
		for _, peer := range report.Peers() {
			var targets []string
			for _, one := range r.Measurements {
				if one.Metric == m.Name && one.Peer == peer && len(one.Samples) > 0 {
					targets = append(targets, one.Target)
				}
			}
			excused := slices.ContainsFunc(r.Failures, func(f report.Failure) bool { return f.Step == m.Name })
			if len(targets) == 0 && !excused {
				t.Errorf("%s of %s was not measured", m.Name, peer)
			}
			if m.Group == report.Data {
				wantTargets(t, m.Name, peer, targets)
			}
		}
	}
	for _, m := range report.Metrics() {
		if m.Group != report.Data {
			continue
		}
		var targets []string
		for _, one := range r.Measurements {
			if one.Metric == m.Name && one.Peer == report.Failover && len(one.Samples) > 0 {
				targets = append(targets, one.Target)
			}
		}
		wantTargets(t, m.Name, report.Failover, targets)
	}
	counts := map[string]int{"change": r.Plan.Changes, "connect": r.Plan.Connects, "spread": r.Plan.Endpoints}
	for _, one := range r.Measurements {
		if want, ok := counts[one.Metric]; ok && len(one.Samples) != want {
			t.Errorf("%s of %s has %d samples, want %d", one.Metric, one.Peer, len(one.Samples), want)
		}
		if i := slices.IndexFunc(one.Samples, func(v float64) bool { return v < 0 }); i >= 0 {
			t.Errorf("%s of %s: sample %d is negative", one.Metric, one.Peer, i)
		}
	}
	spread := r.Samples("spread", report.Nftproxy, r.Plan.Sizes[0], "")
	for _, n := range spread {
		if int(n) != r.Plan.Spread/r.Plan.Endpoints {
			t.Errorf("the backends of nftproxy got %v connections, want %d each", spread, r.Plan.Spread/r.Plan.Endpoints)
			break
		}
	}
	for _, name := range report.Schedulers() {
		if spread := r.Samples("spread", report.Nftproxy, r.Plan.Sizes[0], report.Scheduler+name); len(spread) != r.Plan.Endpoints {
			t.Errorf("the spread of the scheduler %s has %d backends, want %d", name, len(spread), r.Plan.Endpoints)
		}
	}
	if len(r.Samples("start", report.Floor, r.Plan.ControlSizes[0], "")) == 0 {
		t.Error("the floor was not measured")
	}
}

// wantTargets checks that a metric of the data plane has samples from everywhere to everywhere.
func wantTargets(t *testing.T, metric, peer string, got []string) {
	t.Helper()
	to := []string{report.Without, report.OneRule, report.Direct, report.Service}
	if metric == "connect" {
		to = []string{report.Without, report.OneRule, report.Direct, report.First, report.Middle, report.Last}
	}
	for _, from := range []string{report.FromPod, report.FromNode} {
		for _, name := range to {
			if !slices.Contains(got, from+name) {
				t.Errorf("%s of %s was not measured to %s", metric, peer, from+name)
			}
		}
	}
}

// TestInterrupted ends a run in the middle: what it measured is there, and it can go on.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	plan := smallestPlan()
	plan.Sizes, plan.ControlSizes, plan.DisruptionSizes, plan.RollSizes, plan.DataSizes = []int{1}, nil, nil, nil, nil
	b, err := newBench(plan, executables, dir, false)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := b.run(ctx, stopAt{"[ 2/3]", cancel}); err == nil {
		t.Fatal("a run that was interrupted did not say so")
	}
	r, err := report.Load(filepath.Join(dir, report.ResultsFile))
	must(t, err)
	if len(r.Steps) != 1 {
		t.Errorf("%v had ended, want one step", r.Steps)
	}
	on, err := newBench(plan, executables, dir, true)
	must(t, err)
	log := &bytes.Buffer{}
	must(t, on.run(t.Context(), log))
	if bytes.Contains(log.Bytes(), []byte("[ 1/3]")) || len(on.results.Steps) != 3 {
		t.Errorf("it did not go on where it was: %v\n%s", on.results.Steps, log)
	}
	plan.Changes++
	if _, err := newBench(plan, executables, dir, true); err == nil {
		t.Error("another plan went on with the results")
	}
}

// stopAt cancels when a text is written.
type stopAt struct {
	text   string
	cancel func()
}

func (s stopAt) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.text)) {
		s.cancel()
	}
	return len(p), nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
