// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nftproxy/nftproxy/e2e/upstream"
)

// specsEnv makes the test program run upstream's specs: see package specs.
const specsEnv = "NFTPROXY_UPSTREAM_SPECS=1"

// program is upstream's tests, with the arguments that all its calls have.
func (o options) program(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "e2e.test"), args...)
	cmd.Env = []string{specsEnv, "PATH=" + o.bin + ":" + os.Getenv("PATH"), "HOME=" + o.out}
	cmd.Dir = o.out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// compare fails where upstream has specs of which nobody has decided whether they are run.
func compare(ctx context.Context, o options, list []upstream.Spec) error {
	text, err := o.program(ctx, "--list-tests").Output()
	if err != nil {
		return fmt.Errorf("list upstream's specs: %w", err)
	}
	return upstream.Compare(list, string(text))
}

// runner runs specs on a cluster.
type runner struct {
	options
	stage string
	site  *site

	mu      sync.Mutex
	results upstream.Results
	files   int // junit files so far
}

// removeOld removes what an earlier run of the same stage has left.
func (r *runner) removeOld() error {
	old, err := filepath.Glob(filepath.Join(r.out, r.stage+"-*"))
	for _, file := range old {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// of returns the specs for a cluster that are to be run.
func (r *runner) of(list []upstream.Spec, kind upstream.Cluster) (out []string) {
	for _, s := range list {
		if s.Cluster == kind && strings.Contains(s.Text, r.focus) {
			out = append(out, s.Text)
		}
	}
	return out
}

// run runs specs in several processes, and those that fail once more, one by one.
func (r *runner) run(ctx context.Context, specs []string) error {
	if err := r.inGroups(ctx, specs, r.specsEach, r.processes); err != nil {
		return err
	}
	again := slices.DeleteFunc(slices.Clone(specs), func(s string) bool {
		o := r.results.Of(s)
		return o != upstream.Failed && o != upstream.NotRun
	})
	return r.inGroups(ctx, again, 1, 1)
}

// groups deals specs out into groups of at most so many. Neighbours take the same time, mostly, so they go to different ones.
func groups(specs []string, most int) [][]string {
	out := make([][]string, (len(specs)+most-1)/most)
	for i, spec := range specs {
		out[i%len(out)] = append(out[i%len(out)], spec)
	}
	return out
}

func (r *runner) inGroups(ctx context.Context, specs []string, each, processes int) error {
	groups := groups(specs, each)
	todo := make(chan []string, len(groups))
	for _, g := range groups {
		todo <- g
	}
	close(todo)
	var wg sync.WaitGroup
	for range processes {
		wg.Go(func() {
			for g := range todo {
				if ctx.Err() == nil {
					r.group(ctx, g)
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// group runs specs in one process and reads what became of them.
func (r *runner) group(ctx context.Context, specs []string) {
	r.mu.Lock()
	r.files++
	name := filepath.Join(r.out, fmt.Sprintf("%s-%03d", r.stage, r.files))
	r.mu.Unlock()
	began := time.Now()
	err := r.e2e(ctx, name, specs)
	r.mu.Lock()
	defer r.mu.Unlock()
	file, openErr := os.Open(name + ".xml")
	if openErr == nil {
		openErr = r.results.Add(file)
		_ = file.Close()
	}
	if openErr != nil {
		log.Printf("%s has no results: %v; %v", name, openErr, err)
	}
	log.Printf("%s: %d specs in %.0f s", filepath.Base(name), len(specs), time.Since(began).Seconds())
	for _, spec := range specs {
		if o := r.results.Of(spec); o != upstream.Passed {
			log.Printf("  %s: %s", o, spec)
		}
	}
}

// e2e runs a process of upstream's tests in the namespace outside the nodes.
func (r *runner) e2e(ctx context.Context, name string, specs []string) error {
	focus := make([]string, len(specs))
	for i, s := range specs {
		focus[i] = regexp.QuoteMeta(s)
	}
	kubeconfig := r.site.Kubeconfig()
	cmd := r.program(ctx,
		"--kubeconfig="+kubeconfig, "--provider=skeleton", fmt.Sprintf("--num-nodes=%d", len(r.site.Nodes)),
		"--kubectl-path="+filepath.Join(r.bin, "kubectl"), "--disable-log-dump", "--node-os-distro=debian",
		"--ginkgo.focus=("+strings.Join(focus, "|")+")$", "--ginkgo.junit-report="+name+".xml",
		"--ginkgo.no-color", "--ginkgo.v", fmt.Sprintf("--ginkgo.timeout=%v", r.perSpec*time.Duration(len(specs))), "-test.timeout=0")
	cmd.Env = append(cmd.Env, "KUBECONFIG="+kubeconfig)
	logFile, err := os.Create(name + ".log")
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := r.site.Network.Outside.Do(cmd.Start); err != nil {
		return err
	}
	return cmd.Wait()
}
