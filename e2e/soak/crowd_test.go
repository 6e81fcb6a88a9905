// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// fourPods are pods of no network.
func fourPods() []pod {
	var out []pod
	for i := range 4 {
		out = append(out, pod{netns.Host{V4: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), V6: netip.MustParseAddr(fmt.Sprintf("fd00::%d", i))}, "pod", nodeName})
	}
	return out
}

// answeredBy is an answer of a pod.
func answeredBy(p pod) traffic.Result {
	return traffic.Result{Outcome: traffic.Answered, Backend: netip.AddrPortFrom(p.V4, podPort)}
}

// TestLateness: endpoints may answer, those that left may for a while, and others never; nobody is no answer.
func TestLateness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods := fourPods()
		c := newCrowd(netns.IPv4, pods, 0, 2) // 0 and 1
		check := func(when string, p pod, wantLate time.Duration, wantErr bool) {
			t.Helper()
			late, err := lateness(answeredBy(p), c, time.Now(), time.Hour)
			if (err != nil) != wantErr || err == nil && late != wantLate {
				t.Errorf("%s: %s was late by %s, %v; want %s, and an error: %v", when, p.V4, late, err, wantLate, wantErr)
			}
		}
		check("at first", pods[0], 0, false)
		check("at first", pods[2], 0, true)
		must(t, c.change(endpoints{ready: []pod{pods[1], pods[2]}}, func(endpoints) error {
			time.Sleep(time.Minute)
			check("while it is asked for", pods[0], 0, false)
			check("while it is asked for", pods[2], 0, false)
			return nil
		}))
		time.Sleep(2 * time.Second)
		check("then", pods[0], 2*time.Second, false)
		check("then", pods[1], 0, false)
		time.Sleep(mostLate)
		check("long after", pods[0], 0, true)
		if _, err := lateness(answeredBy(pods[0]), c, time.Now(), time.Second); err != nil {
			t.Errorf("just when the API server is back: %v", err)
		}
		must(t, c.change(endpoints{ready: []pod{pods[0]}, terminating: []pod{pods[1]}}, func(endpoints) error { return nil }))
		check("back", pods[0], 0, false)
		time.Sleep(time.Second)
		check("terminating", pods[1], time.Second, false)
		if err := c.change(endpoints{}, func(endpoints) error { return errors.New("no answer") }); err == nil || c.size() != 1 {
			t.Errorf("a change that was not confirmed: %v, %d endpoints; want an error, and one", err, c.size())
		}
		if _, err := lateness(traffic.Result{Outcome: traffic.Refused, Err: errors.New("refused")}, c, time.Now(), time.Hour); err == nil {
			t.Error("a refusal was no failure")
		}
	})
}

// TestRemoving: a datagram may be lost only near a removal.
func TestRemoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods := fourPods()
		c := newCrowd(netns.IPv4, pods, 0, 2)
		must(t, c.change(endpoints{ready: []pod{pods[0], pods[1], pods[2]}}, func(endpoints) error { return nil }))
		if c.removing(time.Now()) {
			t.Error("an endpoint that came was taken for one that went")
		}
		before := time.Now()
		time.Sleep(time.Minute)
		must(t, c.change(endpoints{ready: []pod{pods[0]}}, func(endpoints) error { time.Sleep(time.Second); return nil }))
		now := time.Now()
		for at, want := range map[time.Time]bool{before: false, now.Add(-4 * time.Second): false, now.Add(-2 * time.Second): true,
			now: true, now.Add(time.Second): true, now.Add(3 * time.Second): false} {
			if got := c.removing(at); got != want {
				t.Errorf("a datagram of %s after the removal: %v, want %v", at.Sub(now), got, want)
			}
		}
		time.Sleep(2 * remembered)
		must(t, c.change(endpoints{ready: []pod{pods[1]}}, func(endpoints) error { return nil }))
		if len(c.removals) != 1 {
			t.Errorf("%d removals are remembered, want the last one", len(c.removals))
		}
	})
}

// TestServices: all kinds of Services have every role, and all names and addresses differ.
func TestServices(t *testing.T) {
	seen := map[string]int{}
	names, addresses := map[string]bool{}, map[int]bool{}
	list := newServices(5000, fourPods())
	for _, s := range list {
		seen[kind(s.role, fmt.Sprint(s.protocols), len(s.families))]++
		names[s.name], addresses[s.address] = true, true
	}
	if len(names) != len(list) || len(addresses) != len(list) {
		t.Errorf("%d Services have %d names and %d addresses", len(list), len(names), len(addresses))
	}
	for _, r := range []role{steady, rolled} {
		for _, p := range []string{"[TCP]", "[TCP UDP]", "[UDP]", "[SCTP]"} {
			for _, families := range []int{1, 2} {
				if key := kind(r, p, families); seen[key] == 0 {
					t.Errorf("there is none of %s", key)
				}
			}
		}
	}
}

func kind(r role, protocols string, families int) string {
	return fmt.Sprintf("%s, %s, families: %d", r, protocols, families)
}
