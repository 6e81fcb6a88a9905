// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Hits counts answers per backend.
type Hits map[netip.AddrPort]int

// Tally is what came of a number of attempts.
type Tally struct {
	Hits                      Hits
	Order                     []netip.AddrPort // who answered, in the order of the attempts
	Refused, TimedOut, Failed int
	LastErr                   error // of the last attempt that was not answered
}

// Answered returns how many attempts were answered.
func (t Tally) Answered() int { return len(t.Order) }

// Spread makes n attempts one after the other and counts who answered. It ends
// early, with the context's error, when ctx ends; other errors are in the tally.
func Spread(ctx context.Context, n int, attempt func(context.Context) Result) (Tally, error) {
	t := Tally{Hits: Hits{}}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return t, fmt.Errorf("stopped after %d of %d attempts: %w", i, n, err)
		}
		t.add(attempt(ctx))
	}
	return t, nil
}

func (t *Tally) add(r Result) {
	switch r.Outcome {
	case Answered:
		t.Hits[r.Backend]++
		t.Order = append(t.Order, r.Backend)
		return
	case Refused:
		t.Refused++
	case TimedOut:
		t.TimedOut++
	default:
		t.Failed++
	}
	t.LastErr = r.Err
}

// ExactRoundRobin returns nil if n attempts were spread over the backends, and
// nobody else, as evenly as n allows: each got n/len(backends), rounded down or up.
// Else it says which backends got what.
func ExactRoundRobin(hits Hits, backends []netip.AddrPort, n int) error {
	if len(backends) == 0 {
		return errors.New("round robin over no backends")
	}
	low := n / len(backends)
	high := (n + len(backends) - 1) / len(backends)
	var errs []error
	rest, total := maps.Clone(hits), 0
	for _, b := range backends {
		got := hits[b]
		total += got
		if got < low || got > high {
			errs = append(errs, fmt.Errorf("%s got %d, want %s", b, got, between(low, high)))
		}
		delete(rest, b)
	}
	for _, b := range slices.SortedFunc(maps.Keys(rest), netip.AddrPort.Compare) {
		errs = append(errs, fmt.Errorf("%s got %d, but is no backend", b, rest[b]))
	}
	if len(errs) == 0 && total != n {
		errs = append(errs, fmt.Errorf("%d answers, want %d", total, n))
	}
	return errors.Join(errs...)
}

func between(low, high int) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d or %d", low, high)
}
