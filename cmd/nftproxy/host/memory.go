// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
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

// When the program is at rest: in restPeriod it has allocated less than restBytes. Garbage is worth a collection then if it is
// garbageMin or more, and an eighth of what is in use.
const (
	restPeriod  = 2 * time.Second
	restBytes   = 512 << 10
	garbageMin  = 4 << 20
	garbagePart = 8
)

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

// GiveBack gives garbage back to the system when the program is at rest, after a load, a comparison or changes, until ctx ends. Go
// keeps it until the heap has grown by gcPercent, which may take hours.
func GiveBack(ctx context.Context) {
	tick := time.NewTicker(restPeriod)
	defer tick.Stop()
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	var g garbage
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(samples)
		if g.due(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}

// garbage knows how much was allocated, ever: at the last look, and when garbage was given back.
type garbage struct{ looked, gave uint64 }

// due says whether to give it back now.
func (g *garbage) due(allocated, live uint64) bool {
	rests := allocated-g.looked < restBytes
	g.looked = allocated
	if !rests || allocated-g.gave < max(garbageMin, live/garbagePart) {
		return false
	}
	g.gave = allocated
	return true
}
