// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Outcome is how an attempt ended.
type Outcome int

// The outcomes. The zero value is none of them.
const (
	Answered Outcome = iota + 1
	Refused          // told at once that nobody answers there: TCP reset, ICMP port or protocol unreachable
	TimedOut         // heard nothing, or a packet was lost: see Client.Timeout
	Failed           // anything else, such as a broken answer or no route
)

func (o Outcome) String() string {
	switch o {
	case Answered:
		return "answered"
	case Refused:
		return "refused"
	case TimedOut:
		return "timed out"
	case Failed:
		return "failed"
	}
	return fmt.Sprintf("outcome %d", int(o))
}

// Result is what came of one attempt.
type Result struct {
	Outcome Outcome
	Backend netip.AddrPort // who answered; only if Answered
	Peer    netip.AddrPort // whom the backend saw: the client, or what masquerading made of it; only if Answered
	Local   netip.AddrPort // the client as it knows itself; not valid if it got no socket
	Elapsed time.Duration
	// Resent is how many packets TCP sent again, because no answer came within a second, or to one
	// on a connection that stands, within 0.2 seconds. The kernel answers both, so that a machine
	// whose programs get no turn makes connections slow but is not why packets are sent again.
	Resent int
	Err    error // nil if Answered
}

func (r Result) String() string {
	if r.Outcome == Answered {
		return fmt.Sprintf("answered by %s, which saw %s", r.Backend, r.Peer)
	}
	return fmt.Sprintf("%s after %v: %v", r.Outcome, r.Elapsed.Round(time.Microsecond), r.Err)
}

// outcomeOf tells what an error of a socket means.
func outcomeOf(err error) Outcome {
	var timeout net.Error
	switch {
	case err == nil:
		return Answered
	case errors.Is(err, ErrLost):
		return TimedOut
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOPROTOOPT):
		return Refused
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	}
	return Failed
}
