// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func backends() (a, b, c netip.AddrPort) {
	return netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("[fd00::3]:80")
}

func TestSpread(t *testing.T) {
	a, b, _ := backends()
	script := []Result{
		{Outcome: Answered, Backend: b},
		{Outcome: Refused, Err: syscall.ECONNREFUSED},
		{Outcome: Answered, Backend: a},
		{Outcome: TimedOut, Err: context.DeadlineExceeded},
		{Outcome: Failed, Err: syscall.EHOSTUNREACH},
		{Outcome: Answered, Backend: b},
	}
	next := 0
	got, err := Spread(context.Background(), len(script), func(context.Context) Result {
		next++
		return script[next-1]
	})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(got.LastErr, syscall.EHOSTUNREACH) || got.Answered() != 3 {
		t.Errorf("last error %v, %d answered", got.LastErr, got.Answered())
	}
	got.LastErr = nil
	want := Tally{Hits: Hits{a: 1, b: 2}, Order: []netip.AddrPort{b, a, b}, Refused: 1, TimedOut: 1, Failed: 1}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" {
		t.Error(diff)
	}
}

func TestSpreadStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	_, err := Spread(ctx, 10, func(context.Context) Result {
		if calls++; calls == 3 {
			cancel()
		}
		return Result{Outcome: Answered}
	})
	if !errors.Is(err, context.Canceled) || calls != 3 {
		t.Errorf("%d calls, %v, want 3 and canceled", calls, err)
	}
}

func TestExactRoundRobin(t *testing.T) {
	a, b, c := backends()
	for name, tc := range map[string]struct {
		hits     Hits
		backends []netip.AddrPort
		n        int
		wrong    string // part of the error, empty for none
	}{
		"exact":           {Hits{a: 3, b: 3, c: 3}, []netip.AddrPort{a, b, c}, 9, ""},
		"remainder":       {Hits{a: 3, b: 2, c: 3}, []netip.AddrPort{a, b, c}, 8, ""},
		"fewer than all":  {Hits{a: 1}, []netip.AddrPort{a, b, c}, 1, ""},
		"uneven":          {Hits{a: 4, b: 2, c: 3}, []netip.AddrPort{a, b, c}, 9, "10.0.0.1:80 got 4, want 3"},
		"one missing":     {Hits{a: 2, c: 2}, []netip.AddrPort{a, b, c}, 6, "10.0.0.2:80 got 0, want 2"},
		"stranger":        {Hits{a: 1, b: 1, c: 1}, []netip.AddrPort{a, b}, 2, "[fd00::3]:80 got 1, but is no backend"},
		"lost ones":       {Hits{a: 2, b: 2, c: 2}, []netip.AddrPort{a, b, c}, 8, "6 answers, want 8"},
		"no backends":     {Hits{}, nil, 0, "no backends"},
		"nobody answered": {nil, []netip.AddrPort{a}, 5, "got 0, want 5"},
	} {
		err := ExactRoundRobin(tc.hits, tc.backends, tc.n)
		if (err == nil) != (tc.wrong == "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
			t.Errorf("%s: %v, want %q", name, err, tc.wrong)
		}
	}
}

func TestAnswerText(t *testing.T) {
	a, _, c := backends()
	want := answer{question: "q", backend: a, peer: c}
	if got, err := parseAnswer(want.String() + "\n"); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, text := range []string{"", "q", "q x:1 10.0.0.1:1", "q 10.0.0.1:1 10.0.0.1", "q 10.0.0.1:1 10.0.0.1:1 more"} {
		if a, err := parseAnswer(text); err == nil {
			t.Errorf("%q was taken for %+v", text, a)
		}
	}
}
