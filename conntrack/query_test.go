// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
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
	services := func(n int, proto rules.Protocol) []Target {
		var out []Target
		for i := range n {
			out = append(out, Target{Frontend: rules.Frontend{Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), Protocol: proto, Port: 53}})
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
		"one":              {services(1, rules.UDP), []query{{family: unix.AF_INET, proto: rules.UDP, addr: one, port: 53}}},
		"tcp":              {services(1, rules.TCP), []query{{family: unix.AF_INET, proto: rules.TCP, addr: one, port: 53, unanswered: true}}},
		"many":             {services(maxFilteredDumps+1, rules.UDP), []query{{family: unix.AF_INET, proto: rules.UDP}}},
		"many of one protocol": {
			append(services(2, rules.TCP), services(1, rules.UDP)...),
			[]query{{family: unix.AF_INET, proto: rules.TCP, unanswered: true}, {family: unix.AF_INET, proto: rules.UDP, addr: one, port: 53}},
		},
		"any address": {
			[]Target{{Frontend: rules.Frontend{Protocol: rules.UDP, Port: 53}}},
			[]query{{family: unix.AF_INET, proto: rules.UDP, port: 53}, {family: unix.AF_INET6, proto: rules.UDP, port: 53}},
		},
		"any address of a family": {
			[]Target{{Frontend: rules.Frontend{Addr: netip.IPv6Unspecified(), Protocol: rules.UDP, Port: 53}}},
			[]query{{family: unix.AF_INET6, proto: rules.UDP, port: 53}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := plan(row.targets, false); !slices.Equal(got, row.want) {
				t.Errorf("got %+v\nwant %+v", got, row.want)
			}
		})
	}
	if got := plan(append(services(2, rules.TCP), services(9, rules.UDP)...), true); !slices.Equal(got, []query{{}}) {
		t.Errorf("a large table: got %+v, want one dump without a filter", got)
	}
	if got := plan(services(1, 33), true); got != nil {
		t.Errorf("a large table, protocol unknown: got %+v", got)
	}
	if got := plan(services(maxFilteredDumps, rules.UDP), false); len(got) != maxFilteredDumps {
		t.Errorf("%d dumps for %d frontends", len(got), maxFilteredDumps)
	}
}
