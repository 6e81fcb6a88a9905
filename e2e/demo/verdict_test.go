// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/traffic"
)

func TestVerdict(t *testing.T) {
	a, b, c := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1"), netip.MustParseAddrPort("10.0.0.3:1")
	both := []netip.AddrPort{a, b}
	answered := func(list ...netip.AddrPort) traffic.Tally {
		tally := traffic.Tally{Hits: traffic.Hits{}, Order: list}
		for _, b := range list {
			tally.Hits[b]++
		}
		return tally
	}
	rows := []struct {
		name     string
		backends []netip.AddrPort
		tally    traffic.Tally
		n        int
		want     string
	}{
		{"in turn", both, answered(a, b, a, b), 4, roundRobin},
		{"out of turn", both, answered(a, a, a, b), 4, "10.0.0.1:1 got 3, want 2, 10.0.0.2:1 got 1, want 2"},
		{"a stranger", both, answered(a, b, a, c), 4, "10.0.0.2:1 got 1, want 2, 10.0.0.3:1 got 1, but is no backend"},
		{"silence", both, traffic.Tally{TimedOut: 2}, 2, "10.0.0.1:1 got 0, want 1, 10.0.0.2:1 got 0, want 1 (2 timed out)"},
		{"a refusal", nil, traffic.Tally{Refused: 2}, 2, refused},
		{"no refusal", nil, traffic.Tally{Refused: 1, TimedOut: 1}, 2, "want refused, got 1 refused, 1 timed out"},
		{"an answer", nil, answered(a, a), 2, "want refused, got 2 answered"},
		{"a failure", nil, traffic.Tally{Failed: 2, LastErr: errors.New("no route")}, 2, "want refused, got 2 failed, no route"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			text, ok := target{backends: r.backends}.verdict(r.tally, r.n)
			if wantOK := r.want == roundRobin || r.want == refused; text != r.want || ok != wantOK {
				t.Errorf("verdict %q, %v, want %q, %v", text, ok, r.want, wantOK)
			}
		})
	}
}

// Colours are for terminals only.
func TestColor(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal to try: %v", err)
	}
	defer terminal.Close()
	if got, want := newScreen(terminal).mark("good", true), "\x1b[32mgood\x1b[0m"; got != want {
		t.Errorf("on a terminal: %q, want %q", got, want)
	}
	if got := newScreen(&bytes.Buffer{}).mark("good", true); got != "good" {
		t.Errorf("not on a terminal: %q", got)
	}
	t.Setenv("NO_COLOR", "1")
	if got := newScreen(terminal).mark("good", true); got != "good" {
		t.Errorf("with NO_COLOR: %q", got)
	}
}
