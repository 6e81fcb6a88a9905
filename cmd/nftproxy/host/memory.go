// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr"
)

// gcPercent is half of Go's default: on a node memory is dearer than the little time that
// this takes more.
const gcPercent = 50

// memoryShare is how much of the cgroup's memory Go may take. The rest is for what the kernel charges to the cgroup:
// the rules, sockets' buffers, and the pages of the program that are in use.
const memoryShare = 0.7

// memoryRefresh is how often the cgroup's limit is looked at again: a pod can be resized in place.
const memoryRefresh = time.Minute

// settle is how long after a full load or comparison all that it needed is garbage.
const settle = 5 * time.Second

// LimitMemory makes Go collect garbage more often near the cgroup's limit, of either version of cgroups, until ctx
// ends. GOGC and GOMEMLIMIT, where they are set, have the last word.
func LimitMemory(ctx context.Context, log logr.Logger, cgroup memlimit.Provider) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	limit, err := memlimit.Set(memlimit.WithProvider(cgroup), memlimit.WithRatio(memoryShare), memlimit.WithRefreshInterval(ctx, memoryRefresh))
	switch {
	case err != nil:
		log.V(2).Info("The memory limit of the cgroup is not known", "reason", err.Error())
	case limit == math.MaxInt64:
		log.V(2).Info("Memory is not limited")
	default:
		log.Info("Memory is limited", "gomemlimit", limit, "explicit", os.Getenv("GOMEMLIMIT") != "")
	}
}

// MemoryKeeper gives memory back some time after it was told to.
type MemoryKeeper chan struct{}

// NewMemoryKeeper returns one that was told nothing yet.
func NewMemoryKeeper() MemoryKeeper { return make(MemoryKeeper, 1) }

// Soon tells it to. It does not wait.
func (k MemoryKeeper) Soon() {
	select {
	case k <- struct{}{}:
	default:
	}
}

// Run does so until ctx ends.
func (k MemoryKeeper) Run(ctx context.Context) {
	for {
		select {
		case <-k:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(settle):
			debug.FreeOSMemory()
		case <-ctx.Done():
			return
		}
	}
}
