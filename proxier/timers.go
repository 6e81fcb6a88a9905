// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"time"
)

// How long to wait before the next try, the first time and at most.
const (
	firstWait = 200 * time.Millisecond
	lastWait  = 5 * time.Minute
)

// backoff doubles a waiting time.
type backoff struct{ wait time.Duration }

func (b *backoff) next() time.Duration { return b.upTo(lastWait) }

func (b *backoff) upTo(longest time.Duration) time.Duration {
	b.wait = min(max(2*b.wait, firstWait), longest)
	return b.wait
}

func (b *backoff) reset() { b.wait = 0 }

// task is something that is done again when it fails, later each time.
type task struct {
	timer
	backoff
	waiting bool // to be done again: the timer says when
}

func newTask() *task { return &task{timer: *newTimer()} }

// failed notes that the task failed, and returns when it is done again.
func (t *task) failed(longest time.Duration) time.Duration {
	wait := t.upTo(longest)
	t.waiting = true
	t.set(wait)
	return wait
}

func (t *task) done() { t.reset() }

// timer is a time.Timer that is created stopped.
type timer struct{ t *time.Timer }

func newTimer() *timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &timer{t}
}

func (t *timer) C() <-chan time.Time { return t.t.C }
func (t *timer) set(d time.Duration) { t.t.Reset(d) }
func (t *timer) stop()               { t.t.Stop() }

// sleep waits, and returns false if ctx ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// timerOf returns a timer that is set, if it is to a time above 0.
func timerOf(d time.Duration) *timer {
	t := newTimer()
	if d > 0 {
		t.set(d)
	}
	return t
}
