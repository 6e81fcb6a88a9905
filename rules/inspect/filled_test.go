// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
)

// TestFilled: what packets have put into a set is read with its time, and a set that is not there is empty.
func TestFilled(t *testing.T) {
	netnstest.Tool(t, "nft")
	h := newHost(t)
	filled := func() (elements []rules.Element, times []rules.Lifetime) {
		t.Helper()
		err := h.Filled(rules.DefaultTable, rules.IPv4, rules.Unanswered, func(e rules.Element, l rules.Lifetime) {
			elements, times = append(elements, e), append(times, l)
		})
		if err != nil {
			t.Fatal(err)
		}
		return elements, times
	}
	if list, _ := filled(); list != nil {
		t.Errorf("without a table: %+v", list)
	}
	sp := port(rules.IPv4, 1)
	h.load(t, state(rules.Config{}, 2, sp))
	if list, _ := filled(); list != nil {
		t.Errorf("without a set: %+v", list)
	}
	sp.Failover = true
	h.load(t, state(rules.Config{}, 2, sp))
	if list, _ := filled(); list != nil {
		t.Errorf("an empty set: %+v", list)
	}
	h.nft(t, "add element ip nftproxy unanswered { 10.1.0.1 . tcp . 40000 timeout 1h : 10.96.1.0 . 80 }\n")
	list, times := filled()
	want := rules.Element{Key: rules.Key{Addr: netip.MustParseAddr("10.1.0.1"), Protocol: rules.TCP, Port: 40000},
		Value: rules.Value{To: netip.MustParseAddrPort("10.96.1.0:80")}}
	if len(list) != 1 || list[0] != want {
		t.Fatalf("%+v, want %+v", list, want)
	}
	if l := times[0]; l.Timeout != 3600_000 || l.Expires == 0 || l.Expires > l.Timeout {
		t.Errorf("%+v, want a part of an hour", l)
	}
}

// TestLookup: one element is found among others; none is, where it or the set is not there.
func TestLookup(t *testing.T) {
	netnstest.Tool(t, "nft")
	h := newHost(t)
	sticky, client := port(rules.IPv4, 1), netip.MustParseAddr("10.1.0.1")
	sticky.Affinity = 60
	id := rules.AffinityMaps(sticky.Name)[0]
	lookup := func(what string, a netip.Addr, want netip.AddrPort) {
		t.Helper()
		v, found, err := h.Lookup(rules.DefaultTable, rules.IPv4, id, rules.Key{Addr: a})
		if err != nil || found != want.IsValid() || v.To != want {
			t.Errorf("%s: %+v (%t), %v, want %s", what, v, found, err, want)
		}
	}
	lookup("no table", client, netip.AddrPort{})
	h.load(t, state(rules.Config{}, 2, sticky))
	lookup("no client", client, netip.AddrPort{})
	h.affine(t, id.Name(), client)
	h.affine(t, id.Name(), client.Next())
	lookup("two clients", client, netip.MustParseAddrPort("10.96.1.1:8080"))
	lookup("another client", client.Prev(), netip.AddrPort{})
}
