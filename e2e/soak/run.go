// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// run is a run that goes on, and what it has found so far.
type run struct {
	*site
	plan     plan
	out      io.Writer // of the progress
	began    time.Time
	diary    *diary
	tally    tally
	open     []*opened
	changes  atomic.Int64
	foreign  foreignCounts
	restarts restarts
	series   series
}

// soak does it all. Results are there if the load had begun, whatever the error.
func soak(ctx context.Context, p plan, program string, out io.Writer) (res *results, err error) {
	r := &run{plan: p, out: out, series: series{}}
	r.log("making the network, the API server and %d Services", p.Services)
	if r.site, err = newSite(ctx, p.Services, program); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.log("starting nftproxy")
	if err := r.startProxy(ctx); err != nil {
		return nil, err
	}
	r.log("soaking for %s", p.Length)
	r.began = time.Now()
	r.diary = newDiary(func(f failure) { fmt.Fprintf(r.out, "FIRST FAILURE\n%s\n", f) })
	err = r.load(ctx)
	length := time.Since(r.began)
	res = r.results(length)
	if err == nil {
		r.log("the load has ended; comparing the kernel with the API server")
		err = r.finish(ctx, res)
	}
	res.complete(r, err)
	return res, err
}

// load runs everything at once for the length of the plan.
func (r *run) load(ctx context.Context) error {
	defer r.closeAll()
	if err := r.openAll(ctx); err != nil {
		return err
	}
	going, stop := context.WithTimeout(ctx, r.plan.Length)
	defer stop()
	// Who has waited long enough sends SIGUSR1: what there is then is judged.
	going, unregister := signal.NotifyContext(going, syscall.SIGUSR1)
	defer unregister()
	// What has begun when the time is over is not cut off; after an error all is.
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	var parts errgroup.Group
	for _, part := range []func(ctx, going context.Context) error{r.change, r.interfere, r.restartAPI, r.sample} {
		parts.Go(func() error {
			err := part(ctx, going)
			if err != nil {
				stop()
				cut(err)
			}
			return err
		})
	}
	var traffic sync.WaitGroup
	traffic.Go(func() { r.connect(ctx, going) })
	traffic.Go(func() { r.askAll(ctx, going) })
	err := parts.Wait()
	traffic.Wait()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// log tells how far the run is.
func (r *run) log(format string, args ...any) {
	at := "        "
	if !r.began.IsZero() {
		at = fmt.Sprintf("%5.1f min", time.Since(r.began).Minutes())
	}
	fmt.Fprintf(r.out, "%s  %s\n", at, fmt.Sprintf(format, args...))
}

// tell writes a line about the last samples, each minute at most.
func (r *run) tell() {
	minutes := r.series[colMinute]
	n := len(minutes)
	if n > 1 && int(minutes[n-1]) == int(minutes[n-2]) {
		return
	}
	last := func(column string) float64 { return r.series[column][n-1] }
	r.log("%.0f connections/s, %.0f failed, slowest %.0f ms; %.0f changes/s; %.1f MB, %.1f %% CPU",
		last(colConnections), last(colFailed), last(colSlowest), last(colChanges), last(colMemory), last(colCPU))
}
