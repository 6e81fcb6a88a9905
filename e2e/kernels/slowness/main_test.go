// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

func TestMain(m *testing.M) {
	if os.Getenv(onceEnv) != "" {
		os.Exit(0)
	}
	os.Exit(netns.Main(m.Run))
}

// TestMeasure: the slowest counts, nothing is faster than a plain machine or too slow to be told, and all of the work can be done here.
func TestMeasure(t *testing.T) {
	const atOnce, aDay = time.Nanosecond, 24 * time.Hour
	nothing := func() error { return nil }
	pause := func() error { time.Sleep(time.Millisecond); return nil } // a thing that takes time
	for _, tt := range []struct {
		name     string
		list     []work
		from, to int
	}{
		{"faster than a plain machine", []work{{"", aDay, nothing}}, 1, 1},
		{"the slowest", []work{{"", aDay, nothing}, {"", 100 * time.Microsecond, pause}, {"", aDay, nothing}}, 10, limit},
		{"too slow", []work{{"", atOnce, pause}}, limit, limit},
		{"this machine", everything(), 1, limit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n, err := measure(tt.list, io.Discard); err != nil || n < tt.from || n > tt.to {
				t.Errorf("%d, %v; want %d to %d", n, err, tt.from, tt.to)
			}
		})
	}
	failed := errors.New("failed")
	if _, err := measure([]work{{"", aDay, func() error { return failed }}}, io.Discard); !errors.Is(err, failed) {
		t.Errorf("error %v, want %v", err, failed)
	}
}
