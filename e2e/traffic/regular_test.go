// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// scripted is a connection whose answers are given; an invalid one is silence.
type scripted struct{ answers []netip.AddrPort }

func (s *scripted) ask(string) (answer, error) {
	next := s.answers[0]
	s.answers = s.answers[1:]
	if !next.IsValid() {
		return answer{}, context.DeadlineExceeded
	}
	return answer{backend: next}, nil
}

func (*scripted) local() netip.AddrPort       { return netip.AddrPort{} }
func (*scripted) SetDeadline(time.Time) error { return nil }
func (*scripted) Close() error                { return nil }

func TestRegular(t *testing.T) {
	a, b, _ := backends()
	var silence netip.AddrPort
	for _, tt := range []struct {
		name         string
		protocol     Protocol
		answers      []netip.AddrPort
		lost         string
		asked, again int
	}{
		{"one backend", TCP, []netip.AddrPort{a, a, a}, "", 3, 0},
		{"another one", TCP, []netip.AddrPort{a, a, b, b}, "10.0.0.2:80 answered in place of 10.0.0.1:80", 3, 0},
		{"silence", TCP, []netip.AddrPort{a, silence, a}, "timed out", 2, 0},
		{"SCTP keeps its backend", SCTP, []netip.AddrPort{a, b}, "answered in place of", 2, 0},
		{"UDP changes", UDP, []netip.AddrPort{a, b, b}, "", 3, 0},
		{"a datagram on its way to a pod that goes", UDP, []netip.AddrPort{a, silence, b, b}, "", 3, 1},
		{"a datagram lost", UDP, []netip.AddrPort{a, silence, a, a}, "a datagram was lost", 2, 1},
		{"the first one lost", UDP, []netip.AddrPort{silence, a}, "a datagram was lost", 1, 1},
		{"two lost", UDP, []netip.AddrPort{a, silence, silence, a}, "timed out", 2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Regular{conn: &Conn{asker: &scripted{tt.answers}, timeout: time.Minute}, protocol: tt.protocol}
			rounds := tt.asked
			if tt.lost != "" {
				rounds++ // in which nothing is asked
			}
			begun := time.Now()
			for range rounds {
				r.Ask(t.Context())
			}
			if r.Asked != tt.asked || len(r.Repeats) != tt.again || r.Steps() != int64(rounds) {
				t.Errorf("asked %d times, again %d times, in %d steps; want %d, %d and %d", r.Asked, len(r.Repeats), r.Steps(), tt.asked, tt.again, rounds)
			}
			for _, at := range r.Repeats {
				if at.Before(begun) || at.After(time.Now()) {
					t.Errorf("a datagram that was lost was sent at %v, want one between %v and now", at, begun)
				}
			}
			if (r.Lost != nil) != (tt.lost != "") || r.Lost != nil && !strings.Contains(r.Lost.Error(), tt.lost) {
				t.Errorf("lost: %v, want %q", r.Lost, tt.lost)
			}
		})
	}
}
