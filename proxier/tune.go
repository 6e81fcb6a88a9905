// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/nftproxy/nftproxy/proxier/cluster"
)

// tuner changes endpoints' shares as time goes by: those of new endpoints, and those that depend on how many connections are
// open. It has a goroutine of its own; what it finds goes the way of all changes.
type tuner struct {
	cluster   *cluster.Cluster
	conntrack Conntrack // nil: nothing is counted
	period    time.Duration
	log       logr.Logger
}

// countShare is the part of a CPU that counting may take: one in so many.
const countShare = 20

// start starts the goroutine, until ctx ends.
func (t tuner) start(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() { t.run(ctx) })
	return &wg
}

func (t tuner) run(ctx context.Context) {
	wake := newTimer()
	defer wake.stop()
	var count time.Time // when connections may be counted again
	var again backoff
	for {
		next := t.cluster.WarmUp()
		if t.conntrack != nil {
			now := time.Now()
			if wait := count.Sub(now); wait > 0 {
				next = sooner(next, wait)
			} else if rest := t.count(ctx, &again); rest > 0 {
				count = time.Now().Add(rest)
				next = sooner(next, rest)
			}
		}
		if next > 0 {
			wake.set(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.cluster.Tune():
		case <-wake.C():
		}
	}
}

// firstCount is how long the first commit waits for a count at most.
const firstCount = time.Second

// countFirst counts once before the first commit: so a restart leaves the shares that it finds, instead of making them even until the
// tuner counts, which it does soon if this fails.
func countFirst(c *cluster.Cluster, conntrack Conntrack) {
	open := c.Counting()
	if len(open) == 0 || conntrack == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), firstCount)
	defer cancel()
	if _, err := conntrack.CountOpen(ctx, open); err == nil {
		c.SetOpen(open)
	}
}

// sooner returns the shorter of two times, of which the first may be 0: never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// count counts the connections that somebody asks for, and returns how long to rest; 0: nobody asks.
func (t tuner) count(ctx context.Context, again *backoff) time.Duration {
	open := t.cluster.Counting()
	if len(open) == 0 {
		t.cluster.SetOpen(nil)
		if open == nil {
			return 0
		}
		return t.period // endpoints will come, and nobody tells
	}
	busy, err := t.conntrack.CountOpen(ctx, open)
	if err != nil {
		rest := max(t.period, again.next())
		if ctx.Err() == nil {
			t.log.Error(err, "Could not count connections; the shares of endpoints stay as they are", "again", rest)
		}
		return rest
	}
	again.reset()
	t.cluster.SetOpen(open)
	return max(t.period, (countShare-1)*busy)
}
