// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"testing"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/rules"
)

// TestPresence: only what is in force and leads to an endpoint forwards.
func TestPresence(t *testing.T) {
	there, forwards := Presence{Table: true}, Presence{Table: true, Forwards: true}
	ip4, ip6 := port(rules.IPv4, 1), port(rules.IPv6, 1)
	for _, tt := range []struct {
		name    string
		state   rules.State
		dormant bool
		want    [2]Presence
	}{
		{"no Service", state(rules.Config{}, 0), false, [2]Presence{there, there}},
		{"no endpoint", state(rules.Config{}, 0, ip4), false, [2]Presence{there, there}},
		{"one endpoint", state(rules.Config{}, 1, ip6), false, [2]Presence{there, forwards}},
		{"several endpoints", state(rules.Config{}, 3, ip4), false, [2]Presence{forwards, there}},
		{"dormant tables", state(rules.Config{}, 3, ip4, ip6), true, [2]Presence{there, there}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			want := [2]Presence{}
			for range 2 {
				got, err := h.Presence(rules.DefaultTable)
				if err != nil || got != want {
					t.Errorf("%+v, %v, want %+v", got, err, want)
				}
				h.load(t, tt.state)
				if tt.dormant {
					h.foreign(t, func(c *nftables.Conn) {
						for _, f := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
							c.AddTable(&nftables.Table{Name: rules.DefaultTable, Family: f, Flags: nftables.TableFlagDormant})
						}
					})
				}
				want = tt.want
			}
		})
	}
}
