// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"context"
	"net/http"
	"time"
)

// budget has what costs much done by one at a time, and for a share of the time only.
type budget struct {
	// times is how many times as long as it took it is before it is done again.
	times int
	turn  chan time.Time // has when it may be done again
}

func newBudget(times int) *budget {
	b := &budget{times, make(chan time.Time, 1)}
	b.turn <- time.Time{}
	return b
}

// do calls fn when it is time; not at all if ctx ends before.
func (b *budget) do(ctx context.Context, fn func() error) error {
	var next time.Time
	select {
	case next = <-b.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { b.turn <- next }()
	select {
	case <-time.After(time.Until(next)):
	case <-ctx.Done():
		return ctx.Err()
	}
	began := time.Now()
	err := fn()
	next = time.Now().Add(time.Duration(b.times) * time.Since(began))
	return err
}

// costly are the answers for which the kernel has to list much. They take no other answer's turn.
type costly struct {
	d                        *Daemon
	compared, listed, walked *budget
	flows                    *flows
	counts                   *counts
}

func newCostly(d *Daemon) *costly {
	const fifth, twentieth = 4, 19
	return &costly{d, newBudget(fifth), newBudget(fifth), newBudget(twentieth), &flows{}, &counts{}}
}

// paths are those of the answers.
func (c *costly) paths() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"/v1/diff":        c.diff,
		"/v1/connections": c.connections,
		"/v1/affinity":    c.affinity,
		"/v1/counts":      c.connectionCounts,
	}
}
