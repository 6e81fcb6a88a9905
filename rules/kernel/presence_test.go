// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"testing"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/rules"
)

// TestPresence: only what is in force and leads to an endpoint forwards.
func TestPresence(t *testing.T) {
	there, forwards := Presence{Table: true}, Presence{Table: true, Forwards: true}
	for _, tt := range []struct {
		name     string
		services []rules.Owned
		dormant  bool
		want     [2]Presence
	}{
		{"no Service", nil, false, [2]Presence{there, there}},
		{"no endpoint", []rules.Owned{service(rules.IPv4, 1, 0, 0)}, false, [2]Presence{there, there}},
		{"one endpoint", []rules.Owned{service(rules.IPv6, 1, 0, 1)}, false, [2]Presence{there, forwards}},
		{"several endpoints", []rules.Owned{service(rules.IPv4, 1, 0, 3)}, false, [2]Presence{forwards, there}},
		{"dormant tables", []rules.Owned{service(rules.IPv4, 1, 0, 3), service(rules.IPv6, 1, 0, 1)}, true, [2]Presence{there, there}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			want := [2]Presence{}
			for range 2 {
				got, err := h.Presence(rules.DefaultTable)
				if err != nil || got != want {
					t.Errorf("%+v, %v, want %+v", got, err, want)
				}
				h.load(t, desired(tt.services...).State())
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
