// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// TestAskAgain: an answer that takes seconds is waited for, a lost question is asked again, and silence has an end.
func TestAskAgain(t *testing.T) {
	for _, tt := range []struct {
		name string
		lost int           // how many questions get no answer
		late time.Duration // how long the others' answers take
		want traffic.Outcome
		took time.Duration
	}{
		{"at once", 0, 0, traffic.Answered, 0},
		{"the first one is lost", 1, 0, traffic.Answered, time.Second},
		{"a slow machine", 0, 3500 * time.Millisecond, traffic.Answered, 6500 * time.Millisecond},
		{"silence", 100, 0, traffic.TimedOut, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				asked, begin := 0, time.Now()
				r := askAgain(ctx, func(ctx context.Context) traffic.Result {
					asked++
					late := time.After(tt.late)
					if asked <= tt.lost {
						late = nil
					}
					select {
					case <-late:
						return traffic.Result{Outcome: traffic.Answered}
					case <-ctx.Done():
						return traffic.Result{Outcome: traffic.TimedOut, Err: ctx.Err()}
					}
				})
				if took := time.Since(begin); r.Outcome != tt.want || took != tt.took {
					t.Errorf("%s after %v, want %s after %v", r.Outcome, took, tt.want, tt.took)
				}
			})
		})
	}
}

// TestStarved: a machine that stands still is known by what goes straight to a pod.
func TestStarved(t *testing.T) {
	straight := Target{From: netns.Host{}, Protocol: traffic.TCP, Direct: true}
	for _, tt := range []struct {
		name                string
		quick, slow, failed int
		want                bool
	}{
		{"idle", 10, 0, 0, false},
		{"busy", 9, 1, 0, false},
		{"too busy", 7, 3, 0, true},
		{"stands still", 99, 0, 1, true},
	} {
		l := &Load{}
		for range tt.quick {
			l.note(straight, time.Millisecond, nil)
		}
		for range tt.slow {
			l.note(straight, 2*Stalled, nil)
		}
		for range tt.failed {
			l.note(straight, patience(), errors.New("timed out"))
		}
		l.note(Target{Protocol: traffic.UDP}, 2*Stalled, nil) // of a Service
		if got := l.counts.Starved(); got != tt.want {
			t.Errorf("%s: starved %v, want %v: %+v", tt.name, got, tt.want, l.counts)
		}
	}
}
