// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are what is to be run.
type options struct {
	series, suites, sctp []string
	dir                  string
	guest                guest
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var o options
	series := flags.String("series", "5.10,6.1,6.12,newest", "of kernels; of each the newest of Debian is taken")
	suites := flags.String("suites", "demo,traffic,packets", "what to run: demo, and packages of e2e")
	sctp := flags.String("sctp", "yes,no", "whether the kernel speaks SCTP itself")
	flags.StringVar(&o.dir, "dir", "bin/kernels", "for kernels, images and logs")
	flags.StringVar(&o.guest.run, "run", ".", "which tests, as of go test")
	flags.IntVar(&o.guest.slowness, "slowness", 8, "how many times longer tests wait than on a real machine")
	flags.IntVar(&o.guest.memory, "memory", 2048, "of a guest, in MiB")
	flags.DurationVar(&o.guest.limit, "timeout", 3*time.Hour, "of one guest")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	o.series, o.suites, o.sctp = strings.Split(*series, ","), strings.Split(*suites, ","), strings.Split(*sctp, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	good, err := o.runAll(ctx, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "kernels:", err)
		return 2
	}
	if !good {
		return 1
	}
	return 0
}

// runAll runs each kernel, one after the other, and prints the table. It says whether all was good.
func (o options) runAll(ctx context.Context, stdout, stderr io.Writer) (good bool, err error) {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return false, err
	}
	programs := filepath.Join(dir, "programs")
	if err = errors.Join(os.RemoveAll(programs), os.MkdirAll(programs, 0o755)); err != nil {
		return false, err
	}
	fmt.Fprintln(stderr, "building the tests")
	if err = buildTests(ctx, programs, o.suites); err != nil {
		return false, err
	}
	repo, err := openRepository(ctx, dir)
	if err != nil {
		return false, err
	}
	prepare := func(series string) (guest, error) { return o.prepare(ctx, repo, series, programs) }
	return o.bootAll(ctx, dir, prepare, stdout, stderr)
}

// bootAll boots what prepare makes of each series. Of those that ended it prints the table, even if a later one cannot be had.
func (o options) bootAll(ctx context.Context, dir string, prepare func(series string) (guest, error), stdout, stderr io.Writer) (good bool, err error) {
	good = true
	var results []*result
	for _, series := range o.series {
		g, err := prepare(series)
		if err != nil {
			return false, errors.Join(err, writeTable(stdout, results, o.suites))
		}
		for _, s := range o.sctp {
			g.sctp = s == "yes"
			r, err := g.test(ctx, dir, stderr)
			if err != nil {
				fmt.Fprintln(stderr, err)
			}
			good = good && err == nil && r.good(o.suites)
			results = append(results, r)
			if ctx.Err() != nil {
				return false, errors.Join(ctx.Err(), writeTable(stdout, results, o.suites))
			}
		}
	}
	return good, writeTable(stdout, results, o.suites)
}

// prepare fetches a kernel and makes its image.
func (o options) prepare(ctx context.Context, repo repository, series, programs string) (guest, error) {
	version, err := repo.newest(ctx, series)
	if err != nil {
		return guest{}, err
	}
	g := o.guest
	if g.kernel, err = repo.fetch(ctx, version); err != nil {
		return guest{}, err
	}
	g.suites, g.image = o.suites, filepath.Join(repo.dir, version+".cpio")
	return g, writeImage(ctx, g.image, g.kernel, programs)
}

// test boots the guest, with its console in a file, and tells how it goes.
func (g guest) test(ctx context.Context, dir string, progress io.Writer) (*result, error) {
	r := newResult(g.kernel.version)
	log, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-sctp-%v.log", g.kernel.version, g.sctp)))
	if err != nil {
		return r, err
	}
	fmt.Fprintln(progress, "booting; the console is in", log.Name())
	err = g.boot(ctx, func(line string) {
		fmt.Fprintln(log, line) // its loss would show in nothing but the log
		if r.read(line); strings.HasPrefix(line, "=== begin") || strings.HasPrefix(line, "=== end") || strings.HasPrefix(line, "--- FAIL") {
			fmt.Fprintln(progress, g.kernel.version, strings.TrimLeft(line, "=- "))
		}
	})
	return r, errors.Join(err, log.Close())
}
