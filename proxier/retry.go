// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"fmt"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// How long to wait before the next try, the first time and at most.
const (
	firstWait = 200 * time.Millisecond
	lastWait  = 5 * time.Minute
)

// longestSyncWait is how long to wait at most before all is tried again: the longest is for single service
// ports and comparisons, which hold up nothing else.
const longestSyncWait = 30 * time.Second

// How many owners that were set aside are tried again at once, and how long after others.
const (
	retryBatch = 10
	retryPause = time.Second
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

// failure is an owner whose objects the kernel refused.
type failure struct {
	backoff
	next time.Time
}

// setAside notes that the kernel refuses an owner's objects, and when to try again.
func (p *Proxier) setAside(o rules.Owner, err error) {
	f := p.failing[o]
	if f == nil {
		f = &failure{}
		p.failing[o] = f
	}
	wait := f.backoff.next()
	f.next = time.Now().Add(wait)
	p.aside++
	p.config.Metrics.failing.Set(float64(len(p.failing)))
	p.log.Error(err, "Service port is not programmed; the others are", "servicePort", o.String(), "nextTry", wait)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.warnService(serviceOf(o), reasonRefused, fmt.Sprintf("%s is not programmed: %v", o, err))
}

// done forgets that owners failed, and hands their flows to the cleaners.
func (p *Proxier) done(builds, before []rules.Owned) {
	for i := range builds {
		delete(p.failing, builds[i].Owner)
	}
	p.config.Metrics.failing.Set(float64(len(p.failing)))
	p.config.Metrics.servicePorts.Set(float64(p.desired.Owners()))
	p.queueFlows(before, builds)
}

// nextRetry returns when the first failing owner is to be tried again.
func (p *Proxier) nextRetry() (time.Duration, bool) {
	if len(p.failing) == 0 {
		return 0, false
	}
	var first time.Time
	for _, f := range p.failing {
		if first.IsZero() || f.next.Before(first) {
			first = f.next
		}
	}
	if again := p.retried.Add(retryPause); first.Before(again) {
		first = again
	}
	return max(time.Until(first), time.Millisecond), true
}

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
