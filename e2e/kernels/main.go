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
	"slices"
	"strings"
	"syscall"
	"time"
)

// The exit codes besides 0: all was good.
const (
	exitFailed  = 1 // a test failed, or did not end
	exitWrong   = 2 // nothing could be run
	exitPartial = 3 // what ran was good, but a kernel could not be had
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are what is to be run.
type options struct {
	series, sctp []string
	parts        []part
	brief        bool // only the tests of the table's rows
	kept         bool // results are kept
	add          bool // to those that are kept already
	install      bool
	dir, page    string
	version      string
	guest        guest
}

func parse(args []string, stderr io.Writer) (options, error) {
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var o options
	series := flags.String("series", "5.10,6.1,6.12,newest", "of kernels; of each the newest of Debian is taken")
	parts := flags.String("suites", strings.Join(names(everything()), ","), "what to run, each with =REGEXP after it for some of its tests; besides these there is ipvs")
	sctp := flags.String("sctp", "yes,no", "whether the kernel speaks SCTP itself")
	flags.StringVar(&o.dir, "dir", "bin/kernels", "for kernels, images, logs and results")
	flags.StringVar(&o.page, "write", "", "the page whose table is renewed, from the last run of each kernel of all tests, or with -brief")
	flags.StringVar(&o.version, "version", "unknown", "of nftproxy")
	flags.BoolVar(&o.install, "install", false, "install the programs that are missing, with apt-get, as root")
	run := flags.String("run", ".", "which tests, as of go test")
	flags.BoolVar(&o.add, "add", false, "keep the results of some tests, too, beside those of others with the same kernel and version")
	flags.BoolVar(&o.brief, "brief", false, "run only the tests that the table's rows name, whatever -suites and -run say")
	flags.IntVar(&o.guest.slowness, "slowness", 0, "how many times longer tests wait than on a real machine; 0: as the guest measures it")
	flags.IntVar(&o.guest.memory, "memory", 3072, "of a guest, in MiB")
	flags.IntVar(&o.guest.cpus, "cpus", 2, "of a guest")
	flags.DurationVar(&o.guest.limit, "timeout", 3*time.Hour, "of one guest")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.series, o.sctp = strings.Split(*series, ","), strings.Split(*sctp, ",")
	var err error
	if o.parts, err = parseParts(*parts, *run); err != nil {
		fmt.Fprintln(stderr, "kernels:", err)
		return o, err
	}
	o.kept = o.brief || o.add || !slices.ContainsFunc(o.parts, func(p part) bool { return p.run != "." })
	if o.brief {
		o.parts = brief()
	}
	return o, nil
}

func everything() []part {
	var list []part
	for _, s := range suites() {
		if !s.asked {
			list = append(list, part{s, "."})
		}
	}
	return list
}

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return exitWrong
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	good, err := o.runAll(ctx, stdout, stderr)
	unavailable := errors.Is(err, errUnavailable)
	if err != nil {
		prefix := "kernels: "
		if unavailable {
			prefix += "not run: " // .ci/run looks for these words
		}
		for line := range strings.Lines(err.Error()) {
			fmt.Fprint(stderr, prefix+strings.TrimSpace(line)+"\n")
		}
	}
	switch {
	case !good:
		return exitFailed
	case unavailable:
		return exitPartial
	case err != nil:
		return exitWrong
	}
	return 0
}

// runAll runs each kernel, one after the other, prints the table, and renews that of the page. It says whether all that ran
// was good.
func (o options) runAll(ctx context.Context, stdout, stderr io.Writer) (good bool, err error) {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return true, err
	}
	if err = findPrograms(ctx, o.parts, o.install, stderr); err != nil {
		return true, err
	}
	if o.guest.qemu, err = qemuVersion(ctx); err != nil {
		return true, err
	}
	programs := filepath.Join(dir, "programs")
	if err = errors.Join(os.RemoveAll(programs), os.MkdirAll(programs, 0o755)); err != nil {
		return true, err
	}
	fmt.Fprintln(stderr, "building the tests")
	if err = build(ctx, programs, o.version, o.parts); err != nil {
		return true, err
	}
	repo, err := openRepository(ctx, dir, stderr)
	if err != nil {
		return true, err
	}
	prepare := func(series string) (guest, error) { return o.prepare(ctx, repo, series, programs) }
	good, err = o.bootAll(ctx, dir, prepare, stdout, stderr)
	if o.page != "" && ctx.Err() == nil {
		all, loaded := loadResults(filepath.Join(dir, "results"))
		if loaded == nil && len(all) > 0 {
			loaded = writeSection(o.page, all)
		}
		err = errors.Join(err, loaded)
	}
	return good, err
}

// bootAll boots what prepare makes of each series. Of those that ended it prints the table, even if another one cannot be had.
func (o options) bootAll(ctx context.Context, dir string, prepare func(series string) (guest, error), stdout, stderr io.Writer) (good bool, err error) {
	good = true
	var results []*result
	for _, series := range o.series {
		g, failed := prepare(series)
		if errors.Is(failed, errUnavailable) {
			err = errors.Join(err, fmt.Errorf("%s: %w", series, failed))
			continue
		}
		if failed != nil {
			return good, errors.Join(err, failed, writeTable(stdout, results))
		}
		for _, s := range o.sctp {
			g.sctp = s == "yes"
			r, failed := o.test(ctx, g, series, dir, stderr)
			err = errors.Join(err, failed)
			good = good && r.good()
			results = append(results, r)
			if ctx.Err() != nil {
				return false, errors.Join(ctx.Err(), writeTable(stdout, results))
			}
		}
	}
	return good, errors.Join(err, writeTable(stdout, results))
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
	g.image = filepath.Join(repo.dir, version+".cpio")
	return g, writeImage(ctx, g.image, g.kernel, programs)
}

// test boots the guest, with its console in a file, and tells how it goes. What becomes of the guest is in the result, which
// is kept if all tests were to run, or all that the rows name; an error is about the files.
func (o options) test(ctx context.Context, g guest, series, dir string, progress io.Writer) (*result, error) {
	var r *result
	for try := 1; ; try++ {
		var panicked bool
		var err error
		if r, panicked, err = o.boot(ctx, g, series, dir, progress); err != nil {
			return r, err
		}
		if !panicked || try == bootTries || ctx.Err() != nil {
			break
		}
		fmt.Fprintln(progress, "the kernel panicked as emulated ones do: booting it again")
	}
	var err error
	results := filepath.Join(dir, "results")
	if o.add {
		err = r.add(results)
	}
	if err == nil && o.kept && ctx.Err() == nil {
		err = r.save(results)
	}
	return r, err
}

// bootTries is how often a kernel is booted that panics before any test begins, or for the emulator's sake: emulated processors do
// not always see at once that another one has changed the kernel's own code, mostly while it boots ('Oops: int3').
const bootTries = 4

// boot runs the tests in a guest once. panicked says that its kernel panicked so.
func (o options) boot(ctx context.Context, g guest, series, dir string, progress io.Writer) (r *result, panicked bool, err error) {
	r = newResult(g.kernel.version)
	r.Series, r.SCTP, r.Version, r.QEMU, r.Asked, r.Began = series, g.sctp, o.version, g.qemu, names(o.parts), time.Now()
	r.Brief, r.Some = o.brief || o.add, !o.kept
	log, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-sctp-%v.log", r.Kernel, g.sctp)))
	if err != nil {
		return r, false, err
	}
	fmt.Fprintln(progress, "booting; the console is in", log.Name())
	begun, patched := false, false
	booted := g.boot(ctx, func(line string) {
		now := time.Since(r.Began)
		fmt.Fprintf(log, "%7.1f %s\n", now.Seconds(), line) // its loss would show in nothing but the log
		r.read(line, now)
		begun = begun || strings.HasPrefix(line, "=== begin")
		patched = patched || strings.Contains(line, "Oops: int3")
		panicked = panicked || (patched || !begun) && strings.Contains(line, "Kernel panic - not syncing")
		for _, what := range []string{"=== slowness", "=== begin", "=== end", "--- FAIL"} {
			if strings.HasPrefix(line, what) {
				fmt.Fprintf(progress, "%5.0f s  %s  %s\n", now.Seconds(), r.Kernel, strings.TrimLeft(line, "=- "))
			}
		}
	})
	if r.Took = time.Since(r.Began); booted != nil {
		r.Error = booted.Error()
		fmt.Fprintln(progress, booted)
	}
	return r, panicked, log.Close()
}
