// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command slowness measures how many times slower this machine is than a plain one, in what the tests do most, and prints
// that as a whole number, for netns.SlownessEnv:
//
//	NFTPROXY_TEST_SLOWNESS=$(slowness)
//
// The slowest of its measurements counts, as a test may consist of that one thing. It is measured when the tests begin; a
// machine may become slower while they run, so that they still wait far longer than this number says they need.
package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// onceEnv makes this program end at once: it measures how long that takes.
const onceEnv = "SLOWNESS_ONCE"

// limit is the most that is printed: a machine a hundred times slower than a plain one runs nothing to its end.
const limit = 100

// work is a thing that tests do, and how long it takes on a plain machine: two cores of a server of 2023, idle.
type work struct {
	name  string
	plain time.Duration
	do    func() error
}

func main() { os.Exit(run()) }

func run() int {
	if os.Getenv(onceEnv) != "" {
		return 0
	}
	factor, err := measure(everything(), os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "slowness:", err)
		return 1
	}
	fmt.Println(factor)
	return 0
}

func everything() []work {
	return []work{
		{"start 5 programs", 8 * time.Millisecond, startPrograms},
		{"make 5 network namespaces", 8 * time.Millisecond, makeNamespaces},
		{"200 round trips by TCP", 4 * time.Millisecond, roundTrips},
		{"sort 200,000 numbers", 25 * time.Millisecond, sort},
	}
}

// measure does all of the work and returns the factor. It tells of each measurement.
func measure(list []work, log io.Writer) (int, error) {
	worst := 1.0
	for _, w := range list {
		// The best of a few: what is measured is the machine, not what else it does in one moment.
		best := time.Duration(math.MaxInt64)
		for range 3 {
			start := time.Now()
			if err := w.do(); err != nil {
				return 0, fmt.Errorf("%s: %w", w.name, err)
			}
			best = min(best, time.Since(start))
		}
		factor := float64(best) / float64(w.plain)
		fmt.Fprintf(log, "slowness: %s: %v, %.1f times a plain machine's %v\n", w.name, best.Round(time.Microsecond), factor, w.plain)
		worst = max(worst, factor)
	}
	return int(min(math.Ceil(worst), limit)), nil
}

func startPrograms() error {
	for range 5 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{onceEnv + "=1"}
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

func makeNamespaces() (err error) {
	for range 5 {
		n, failed := netns.New("slowness")
		if failed != nil {
			return failed
		}
		err = errors.Join(err, n.Close())
	}
	return err
}

func roundTrips() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if c, aerr := l.Accept(); aerr == nil {
			_, _ = io.Copy(c, c) // until the other end closes
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 16)
	for range 200 {
		if _, err = c.Write(buf); err == nil {
			_, err = io.ReadFull(c, buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sort() error {
	list := make([]uint32, 200_000)
	x := uint32(1)
	for i := range list {
		x = x*1664525 + 1013904223
		list[i] = x
	}
	slices.Sort(list)
	return nil
}
