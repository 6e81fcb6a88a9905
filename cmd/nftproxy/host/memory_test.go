// SPDX-License-Identifier: Apache-2.0

package host

import (
	"math"
	"runtime/debug"
	"strings"
	"testing"

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
