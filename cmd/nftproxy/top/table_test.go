// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

// fixedNames names Services by the addresses of their frontends.
type fixedNames map[string]string

func (n fixedNames) at(f rules.Frontend) (string, bool) {
	name, ok := n[f.Addr.String()]
	return "default/" + name, ok
}

// TestCounts: connections to Services are counted by frontend and endpoint, those to anything else are not, and those to a
// Service that is gone neither.
func TestCounts(t *testing.T) {
	names := fixedNames{"10.96.0.10": "web", "10.96.0.11": "api", "10.96.0.12": "dns", "10.96.0.13": "old"}
	fill := func(bytes uint64) *Counts {
		c := NewCounts(names.at)
		flow := func(to, endpoint string, count func(conntrack.Flow)) {
			f := conntrack.Flow{Protocol: rules.TCP, Bytes: bytes}
			f.Orig.Dst, f.Reply.Src = netip.MustParseAddrPort(to), netip.MustParseAddrPort(endpoint)
			count(f)
		}
		for i := range 8 {
			flow("10.96.0.10:80", fmt.Sprintf("10.244.1.%d:8080", max(1, i)), c.Add)
		}
		for range 2 {
			flow("10.96.0.11:80", "10.244.2.1:8080", c.Add)
			flow("10.96.0.11:80", "10.244.2.1:8080", c.AddOpen)
		}
		flow("10.96.0.11:80", "10.244.2.9:8080", c.AddOpen)
		flow("10.96.0.12:80", "10.244.2.2:8080", c.Add)
		flow("10.96.0.13:80", "10.244.2.2:8080", c.Add)
		flow("192.0.2.1:80", "192.0.2.1:80", c.Add)    // went where it was sent
		flow("192.0.2.2:80", "10.244.2.2:8080", c.Add) // translated by somebody else
		c.Lose()
		return c
	}
	for _, tt := range []struct {
		name  string
		bytes uint64
		o     Choice
		want  string
	}{
		{"folded", 0, Choice{Rows: 2, Sort: "new"}, `SERVICE      ADDRESS            NEW/S  OPEN  ENDPOINTS
default/web  10.96.0.10:80/tcp  4.0    0     10.244.1.1:8080 25%, 10.244.1.2:8080 13%, 10.244.1.3:8080 13%, 10.244.1.4:8080 13%, 10.244.1.5:8080 13%, and 2 more
default/api  10.96.0.11:80/tcp  1.0    3     10.244.2.1:8080 100%
and 1 more
There were more than could be counted.
`},
		{"unfolded, with bytes", 700, Choice{Rows: 1, Sort: "open", Endpoints: true}, `SERVICE      ADDRESS            NEW/S  OPEN  BYTES
default/api  10.96.0.11:80/tcp  1.0    3     2.1Ki
  endpoint   10.244.2.1:8080    1.0    2     1.4Ki
  endpoint   10.244.2.9:8080    0.0    1     700
and 2 more
There were more than could be counted.
`},
		{"by name", 0, Choice{Rows: 1, Sort: "name", Endpoints: true, Filter: "d"}, `SERVICE      ADDRESS            NEW/S  OPEN
default/api  10.96.0.11:80/tcp  1.0    3
  endpoint   10.244.2.1:8080    1.0    2
  endpoint   10.244.2.9:8080    0.0    1
and 2 more
There were more than could be counted.
`},
		{"filtered by address", 0, Choice{Rows: 9, Sort: "bytes", Filter: "0.12:"}, `SERVICE      ADDRESS            NEW/S  OPEN  ENDPOINTS
default/dns  10.96.0.12:80/tcp  0.5    0     10.244.2.2:8080 100%
There were more than could be counted.
`},
	} {
		names["10.96.0.13"] = "old"
		c := fill(tt.bytes)
		delete(names, "10.96.0.13")
		if diff := cmp.Diff(tt.want, c.Take(2).Choose(&tt.o).Text(tt.o.Endpoints)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if left := c.Take(2); len(left.Services) > 0 || left.Lost {
			t.Errorf("%s: it does not begin anew: %+v", tt.name, left)
		}
	}
}
