// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr/funcr"
)

// TestLimitMemory: the cgroup's limit bounds Go's memory, with room for what else is charged; an explicit GOMEMLIMIT
// has the last word; one line tells of it.
func TestLimitMemory(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	gc := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(was); debug.SetGCPercent(gc) })
	const cgroup = 1 << 30
	for _, tt := range []struct {
		name     string
		env      string
		provider memlimit.Provider
		want     int64
		lines    int
	}{
		{"limited", "", memlimit.Limit(cgroup), cgroup * 7 / 10, 1},
		{"not limited", "", func() (uint64, error) { return 0, memlimit.ErrNoLimit }, math.MaxInt64, 0},
		{"explicit", "500MiB", memlimit.Limit(cgroup), 500 << 20, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			if tt.env != "" {
				t.Setenv("GOMEMLIMIT", tt.env)
				debug.SetMemoryLimit(500 << 20) // as the runtime does at its start
			}
			var lines []string
			log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
			LimitMemory(t.Context(), log, tt.provider)
			if got := debug.SetMemoryLimit(-1); got < tt.want-1 || got > tt.want {
				t.Errorf("the limit is %d, want %d", got, tt.want)
			}
			if len(lines) != tt.lines {
				t.Errorf("lines: %s", strings.Join(lines, "\n"))
			}
		})
	}
}

// TestGarbage: it is given back once the program rests, and only if there is some.
func TestGarbage(t *testing.T) {
	t.Parallel()
	const mega, live = 1 << 20, 80 << 20
	var g garbage
	for i, step := range []struct {
		allocated uint64 // since the last look
		want      bool
	}{
		{100 * mega, false}, // it loads
		{100 * mega, false},
		{0, true}, // and rests
		{0, false},
		{mega / 4, false}, // too little happens to be worth it
		{11 * mega, false},
		{mega / 4, true}, // an eighth of what lives is
		{mega / 4, false},
	} {
		allocated := g.looked + step.allocated
		if got := g.due(allocated, live); got != step.want {
			t.Errorf("step %d: due is %v, want %v", i, got, step.want)
		}
	}
}

// TestGiveBack: what is garbage after a burst goes back to the system.
func TestGiveBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); GiveBack(ctx) }()
	defer func() { cancel(); <-done }()
	released := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapReleased
	}
	before := released()
	for range 64 {
		burst = make([]byte, 1<<20)
	}
	burst = nil
	for end := time.Now().Add(time.Minute); released() < before+32<<20; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes were given back, want 64 MB", released()-before)
		}
	}
}

// burst makes the compiler allocate.
var burst []byte
