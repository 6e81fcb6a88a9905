// SPDX-License-Identifier: Apache-2.0

// Command flaky runs every test many times, on the machine as it is and beside a load of
// twice its processors, and says which tests failed how often. It ends with 1 if any did.
//
//	go run ./e2e/flaky -count 20 ./...
//
// The output of each test that failed is in a file, which it names.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("flaky", flag.ContinueOnError)
	flags.SetOutput(stderr)
	count := flags.Int("count", 20, "how often each test runs, in each of the two rounds")
	filter := flags.String("run", ".", "which tests, as of go test")
	limit := flags.Duration("timeout", 3*time.Hour, "of one package in one round")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	test := append([]string{"test", "-json", "-count", strconv.Itoa(*count), "-run", *filter, "-timeout", limit.String()}, flags.Args()...)
	code := 0
	for _, load := range []int{0, 2 * runtime.NumCPU()} {
		t, err := round(ctx, test, load)
		if err != nil {
			fmt.Fprintln(stderr, "flaky:", err)
			return 2
		}
		if !t.report(stdout, load) {
			code = 1
		}
	}
	return code
}

// round runs the tests beside a number of busy goroutines.
func round(ctx context.Context, test []string, load int) (*tally, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", test...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run go test: %w", err)
	}
	release := busy(load)
	defer release()
	t := newTally()
	if err := t.read(out); err != nil {
		cancel()
		return nil, errors.Join(err, cmd.Wait())
	}
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		return nil, fmt.Errorf("run go test: %w", err)
	}
	return t, ctx.Err()
}

// busy keeps as many processors busy until it is released.
func busy(n int) (release func()) {
	was := runtime.GOMAXPROCS(max(n+1, runtime.GOMAXPROCS(0))) // one is left to read what the tests say
	var ended atomic.Bool
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for !ended.Load() { // to be busy is the purpose
			}
		})
	}
	return func() {
		ended.Store(true)
		all.Wait()
		runtime.GOMAXPROCS(was)
	}
}

// name is that of a test; without a test it is the package's: it did not build, or died.
type name struct{ pkg, test string }

func (n name) String() string {
	if n.test == "" {
		return n.pkg
	}
	return n.pkg + " " + n.test
}

// tally counts how tests ended.
type tally struct {
	passed, failed, skipped map[name]int
	output                  map[name][]byte // of the run that is going on
	log                     []byte          // the output of runs that failed
}

func newTally() *tally {
	return &tally{passed: map[name]int{}, failed: map[name]int{}, skipped: map[name]int{}, output: map[name][]byte{}}
}

// read counts what `go test -json` tells (see `go doc test2json`).
func (t *tally) read(r io.Reader) error {
	for d := json.NewDecoder(r); ; {
		var e struct{ Action, Package, Test, Output string }
		if err := d.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read what go test says: %w", err)
		}
		t.note(name{e.Package, e.Test}, e.Action, e.Output)
	}
}

func (t *tally) note(n name, action, output string) {
	switch action {
	case "output", "build-output":
		t.output[n] = append(t.output[n], output...)
		return
	case "pass":
		t.passed[n]++
	case "skip":
		t.skipped[n]++
	case "fail":
		t.failed[n]++
		t.log = append(t.log, t.output[n]...)
	default:
		return
	}
	delete(t.output, n)
}

// report says how the tests ended, and whether none failed.
func (t *tally) report(w io.Writer, load int) bool {
	runs := 0
	for n, c := range t.passed {
		if n.test != "" {
			runs += c
		}
	}
	fmt.Fprintf(w, "beside a load of %d: %d runs of tests passed, %d tests and packages failed, %d tests skipped\n",
		load, runs, len(t.failed), len(t.skipped))
	for _, n := range slices.SortedFunc(maps.Keys(t.failed), func(a, b name) int { return t.failed[b] - t.failed[a] }) {
		fmt.Fprintf(w, "  %s: failed %d of %d times\n", n, t.failed[n], t.failed[n]+t.passed[n])
	}
	if len(t.log) > 0 {
		fmt.Fprintln(w, "  output:", save(t.log))
	}
	return len(t.failed) == 0
}

func save(log []byte) string {
	f, err := os.CreateTemp("", "flaky-*.log")
	if err == nil {
		_, err = f.Write(log)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return err.Error()
	}
	return f.Name()
}
