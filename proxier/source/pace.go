// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"math/rand/v2"
	"time"
)

// How long to wait between two failures, or two requests that came to an end soon: doubling from the first to the longest, with
// jitter up to the upper bound, so that nodes that failed together do not come back together.
const (
	firstDelay   = 800 * time.Millisecond
	longestDelay = 15 * time.Second
	delayJitter  = 0.5 // so 22.5 s at most: after a failure all is right within half a minute
)

// quiet is how long a request must have lasted, or have stayed away, that the delay begins anew.
const quiet = time.Minute

// freeRequests may follow each other at once: a first list that comes through a watch, and the watch after a list.
const freeRequests = 2

// pace keeps a reflector from asking too often, whatever it is answered: there are answers (410, a watch that ends after one
// event) after which a reflector asks again at once. The requests of one verb have one pace; they come one at a time.
type pace struct {
	soon int           // how many requests came soon after another
	next time.Duration // the delay without jitter
	last time.Time     // when the last request was made
}

// wait waits until the next request may be made, or ctx ends.
func (p *pace) wait(ctx context.Context) error {
	if time.Since(p.last) > quiet {
		p.soon, p.next = 0, firstDelay
	}
	if p.soon++; p.soon > freeRequests {
		delay := time.Duration(float64(p.next) * (1 + delayJitter*rand.Float64())) //nolint:gosec // spreading needs no secrecy
		p.next = min(2*p.next, longestDelay)
		timer := time.NewTimer(time.Until(p.last.Add(delay)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.last = time.Now()
	return nil
}
