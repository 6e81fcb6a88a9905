// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// TestPresence: only what leads to an endpoint forwards.
func TestPresence(t *testing.T) {
	there, forwards := Presence{Table: true}, Presence{Table: true, Forwards: true}
	for _, tt := range []struct {
		name     string
		services []rules.Owned
		want     [2]Presence
	}{
		{"no Service", nil, [2]Presence{there, there}},
		{"no endpoint", []rules.Owned{service(rules.IPv4, 1, 0, 0)}, [2]Presence{there, there}},
		{"one endpoint", []rules.Owned{service(rules.IPv6, 1, 0, 1)}, [2]Presence{there, forwards}},
		{"several endpoints", []rules.Owned{service(rules.IPv4, 1, 0, 3)}, [2]Presence{forwards, there}},
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
				want = tt.want
			}
		})
	}
}
