// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"context"
	"net/http"
	"sync"
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

// recent remembers for a moment what costs much.
type recent[T any] struct {
	mu    sync.Mutex
	value T
	until time.Time // it is good
}

func (r *recent[T]) last() (value T, good bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.value, time.Now().Before(r.until)
}

// get returns what is good still, or has it made when it is the budget's time. make says until when it is good. Nobody changes the
// value.
func (r *recent[T]) get(ctx context.Context, b *budget, make func() (value T, until time.Time, err error)) (value T, err error) {
	value, good := r.last()
	if good {
		return value, nil
	}
	err = b.do(ctx, func() (err error) {
		if value, good = r.last(); good { // another one has made it meanwhile
			return nil
		}
		var until time.Time
		if value, until, err = make(); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.value, r.until = value, until
		return nil
	})
	return value, err
}

// forget gives the memory of an old value back: of that which was good until then.
func (r *recent[T]) forget(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until.Equal(until) {
		r.value, r.until = *new(T), time.Time{}
	}
}

// costly are the answers for which the kernel has to list much. They take no other answer's turn.
type costly struct {
	d                        *Daemon
	compared, listed, walked *budget
	flows                    recent[Connections]
	counts                   recent[Counts]
}

func newCostly(d *Daemon) *costly {
	const fifth, twentieth = 4, 19
	return &costly{d: d, compared: newBudget(fifth), listed: newBudget(fifth), walked: newBudget(twentieth)}
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
