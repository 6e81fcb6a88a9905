// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// contextClock is the real clock, save that waiting ends with the context. A reflector sleeps for its backoff
// (up to a minute) without looking at its context; a program that is told to stop must not wait for that.
type contextClock struct {
	clock.RealClock
	ctx context.Context //nolint:containedctx // the interface has no other place for it
}

// After implements clock.Clock.
func (c contextClock) After(d time.Duration) <-chan time.Time {
	done := make(chan time.Time, 1)
	go func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case t := <-timer.C:
			done <- t
		case <-c.ctx.Done():
			done <- time.Now()
		}
	}()
	return done
}
