// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
)

// TestConnections: each frontend has the counts of its own element; nothing is there where none is counted.
func TestConnections(t *testing.T) {
	netnstest.Tool(t, "nft")
	h := newHost(t)
	wantConnections := func(what string, want map[netip.Addr]rules.Counter) {
		t.Helper()
		list, err := h.Connections(rules.DefaultTable)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got := map[netip.Addr]rules.Counter{}
		for _, c := range list {
			if c.Family != rules.FamilyOf(c.Addr) || c.Protocol != rules.TCP || c.Port != 80 || !c.Set.Kind.Serves() {
				t.Errorf("%s: %+v is none of our frontends", what, c)
			}
			got[c.Addr] = c.Counter
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	wantConnections("no table", nil)
	ip4, ip6 := port(rules.IPv4, 1), port(rules.IPv6, 2)
	h.load(t, state(rules.Config{}, 1, ip4, ip6))
	wantConnections("not counted", nil)
	h.load(t, state(rules.Config{CountConnections: true}, 1, ip4, ip6))
	wantConnections("no connection yet", map[netip.Addr]rules.Counter{ip4.ClusterIP: {}, ip6.ClusterIP: {}})
	h.nft(t, fmt.Sprintf(`delete element ip nftproxy single { %[1]s . tcp . 80 }
add element ip nftproxy single { %[1]s . tcp . 80 counter packets 7 bytes 420 : 10.96.1.1 . 8080 }
`, ip4.ClusterIP))
	wantConnections("some connections", map[netip.Addr]rules.Counter{ip4.ClusterIP: {Packets: 7, Bytes: 420}, ip6.ClusterIP: {}})
}

// TestAffinityUsage counts the clients of each map.
func TestAffinityUsage(t *testing.T) {
	netnstest.Tool(t, "nft")
	h := newHost(t)
	if usage, err := h.AffinityUsage(rules.DefaultTable); err != nil || len(usage) > 0 {
		t.Errorf("no table: %+v, %v", usage, err)
	}
	sticky, other := port(rules.IPv4, 1), port(rules.IPv4, 2)
	sticky.Affinity = 60
	h.load(t, state(rules.Config{}, 2, sticky, other))
	wantClients := func(clients int) string {
		t.Helper()
		usage, err := h.AffinityUsage(rules.DefaultTable)
		if err != nil || len(usage) != 1 {
			t.Fatalf("%+v, %v, want one map", usage, err)
		}
		if u := usage[0]; u.Family != rules.IPv4 || u.Clients != clients || u.Size != (rules.Config{}.WithDefaults().AffinitySize) {
			t.Errorf("%+v, want %d clients", u, clients)
		}
		return usage[0].Map
	}
	name := wantClients(0)
	for i := range 300 { // more than the kernel lists in one datagram
		client := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		h.affine(t, name, client)
	}
	wantClients(300)
}

// affine lets a map remember a client.
func (h host) affine(t *testing.T, name string, client netip.Addr) {
	t.Helper()
	h.nft(t, fmt.Sprintf("add element ip nftproxy %s { %s : 10.96.1.1 . 8080 }\n", name, client))
}

// TestBaseChains finds ours and others'.
func TestBaseChains(t *testing.T) {
	netnstest.Tool(t, "nft")
	h := newHost(t)
	if chains, err := h.BaseChains(); err != nil || len(chains) > 0 {
		t.Errorf("an empty namespace: %+v, %v", chains, err)
	}
	h.nft(t, "table inet theirs {\n chain here {\n type filter hook input priority 5\n policy drop\n }\n chain not-at-a-hook {\n }\n}\n"+
		"table ip6 theirs {\n chain there {\n type nat hook output priority -100\n }\n}\n")
	want := map[BaseChain]bool{
		{Family: "inet", Table: "theirs", Name: "here", Type: "filter", Hook: rules.HookInput, Priority: 5, Drops: true}: true,
		{Family: "ip6", Table: "theirs", Name: "there", Type: "nat", Hook: rules.HookOutput, Priority: -100}:             true,
	}
	chains, err := h.BaseChains()
	got := map[BaseChain]bool{}
	for _, c := range chains {
		got[c] = true
	}
	if err != nil || len(chains) != len(want) || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v, want %+v", chains, err, want)
	}
	h.load(t, state(rules.Config{}, 0))
	chains, err = h.BaseChains()
	ours := 0
	for _, c := range chains {
		if c.Table == rules.DefaultTable && c.Type == "nat" {
			ours++
		}
	}
	if err != nil || ours < 4 {
		t.Errorf("%d base chains of ours in %+v (%v)", ours, chains, err)
	}
}
