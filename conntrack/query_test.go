// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnfiltered(t *testing.T) {
	for _, row := range []struct {
		dumps   int
		entries uint32
		want    bool
	}{
		{1, 0, false}, {2, 0, true}, {2, smallTable, true}, {2, smallTable + 1, false}, {12, 10 * smallTable, true},
		{12, 12 * smallTable, false}, {1, largeTable, true}, {1, largeTable - 1, false}, {0, 0, false},
	} {
		if got := unfiltered(row.dumps, row.entries); got != row.want {
			t.Errorf("%d dumps of %d entries: %t, want %t", row.dumps, row.entries, got, row.want)
		}
	}
}

func TestPlan(t *testing.T) {
	services := func(n int, proto uint8) []Target {
		var out []Target
		for i := range n {
			out = append(out, Target{Frontend: Frontend{netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), proto, 53}})
		}
		return out
	}
	one := netip.MustParseAddr("10.96.0.0")
	for name, row := range map[string]struct {
		targets []Target
		want    []query
	}{
		"none":             {nil, nil},
		"protocol unknown": {services(1, 33), nil},
		"one":              {services(1, UDP), []query{{family: unix.AF_INET, proto: UDP, addr: one, port: 53}}},
		"tcp":              {services(1, TCP), []query{{family: unix.AF_INET, proto: TCP, addr: one, port: 53, unanswered: true}}},
		"many":             {services(maxFilteredDumps+1, UDP), []query{{family: unix.AF_INET, proto: UDP}}},
		"many of one protocol": {
			append(services(2, TCP), services(1, UDP)...),
			[]query{{family: unix.AF_INET, proto: TCP, unanswered: true}, {family: unix.AF_INET, proto: UDP, addr: one, port: 53}},
		},
		"any address": {
			[]Target{{Frontend: Frontend{Proto: UDP, Port: 53}}},
			[]query{{family: unix.AF_INET, proto: UDP, port: 53}, {family: unix.AF_INET6, proto: UDP, port: 53}},
		},
		"any address of a family": {
			[]Target{{Frontend: Frontend{Addr: netip.IPv6Unspecified(), Proto: UDP, Port: 53}}},
			[]query{{family: unix.AF_INET6, proto: UDP, port: 53}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := plan(row.targets, false); !slices.Equal(got, row.want) {
				t.Errorf("got %+v\nwant %+v", got, row.want)
			}
		})
	}
	if got := plan(append(services(2, TCP), services(9, UDP)...), true); !slices.Equal(got, []query{{}}) {
		t.Errorf("a large table: got %+v, want one dump without a filter", got)
	}
	if got := plan(services(1, 33), true); got != nil {
		t.Errorf("a large table, protocol unknown: got %+v", got)
	}
	if got := plan(services(maxFilteredDumps, UDP), false); len(got) != maxFilteredDumps {
		t.Errorf("%d dumps for %d frontends", len(got), maxFilteredDumps)
	}
}
