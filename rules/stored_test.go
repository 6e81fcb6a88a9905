// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"math"
	"net/netip"
	"slices"
	"testing"
)

// TestStored: what is kept packed is what it was, as a whole and key by key, and no other key has a value.
func TestStored(t *testing.T) {
	t.Parallel()
	list := func(first uint32, addrs ...string) (out []Element) {
		for i, a := range addrs {
			out = append(out, Element{Key{ID: 7, Index: first + uint32(i)}, Value{To: netip.MustParseAddrPort(a)}})
		}
		return out
	}
	for name, row := range map[string]struct {
		list   []Element
		packed bool
	}{
		"IPv4":            {list(5, "10.0.0.1:80", "10.0.0.2:81", "10.0.0.3:82"), true},
		"IPv6":            {list(5, "[fd00::1]:80", "[fd00::2]:65535"), true},
		"the index wraps": {list(math.MaxUint32, "10.0.0.1:80", "10.0.0.2:80"), true},
		"one":             {list(5, "10.0.0.1:80"), false},
		"two families":    {list(5, "10.0.0.1:80", "[fd00::2]:80"), false},
		"a gap":           {slices.Concat(list(5, "10.0.0.1:80"), list(7, "10.0.0.2:80")), false},
		"verdicts":        {[]Element{{Key{Index: 0}, Value{Goto: "a"}}, {Key{Index: 1}, Value{Goto: "b"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Objects{Sets: []SetElements{{Set: SetID{Kind: 1}, Elements: row.list}}}
			s := store(o)
			if got := len(s.packed) > 0; got != row.packed {
				t.Errorf("packed: %t", got)
			}
			if got := s.objects().Sets[0].Elements; !slices.Equal(got, row.list) {
				t.Errorf("unpacked: %v, want %v", got, row.list)
			}
			s.eachSet(func(_ SetID, l storedElements) {
				if l.len() != len(row.list) || !slices.Equal(l.elements(), row.list) {
					t.Errorf("%d elements: %v", l.len(), l.elements())
				}
				for _, e := range row.list {
					if v, ok := l.value(e.Key); !ok || v != e.Value {
						t.Errorf("%v: %v, %t", e.Key, v, ok)
					}
				}
				first, last := row.list[0].Key, row.list[len(row.list)-1].Key
				first.Index--
				last.Index++
				for _, k := range []Key{first, last, {ID: 8, Index: 5}} {
					if v, ok := l.value(k); ok {
						t.Errorf("%v: %v, want nothing", k, v)
					}
				}
			})
		})
	}
}
