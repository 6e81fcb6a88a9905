// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/rules"
)

// TestForeignRule reads and removes a rule with an expression that we never write.
func TestForeignRule(t *testing.T) {
	h := newHost(t)
	want := desired().State()
	h.load(t, want)
	h.foreign(t, func(c *nftables.Conn) {
		c.AddRule(&nftables.Rule{Table: tableIP4(), Chain: &nftables.Chain{Name: "services"},
			Exprs: []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Counter{}}})
	})
	got := h.read(t, want.Name)
	list := got.Tables[rules.IPv4].Chains["services"].Rules
	last := list[len(list)-1]
	if want := (rules.Unknown{What: "meta counter"}); len(last) != 1 || last[0] != want {
		t.Errorf("read %#v, want %#v", last, want)
	}
	h.load(t, want)
	wantState(t, "after the repair", h.read(t, want.Name), want)
}

// foreignRules are none of ours, some of them nearly. nftproxy's own expressions
// make up most of them, for any kernel has those.
var foreignRules = map[string][]string{
	"services": {
		"counter",
		"accept",
		"continue",
		"ct state established",
		"ct status snat",
		"ct status != dnat",
		"ct mark set meta mark",
		"ct original ip daddr 10.0.0.1",
		"iif lo",
		"meta mark 0x4000",
		"meta mark & 0x4000 == 0x4000",
		"meta mark & 0x4000 != 0",
		"meta mark set 0x4000",
		"meta mark set meta mark and 0xff",
		"meta mark set numgen random mod 10",
		"meta mark set meta mark << 1",
		"meta l4proto != tcp",
		"meta l4proto { tcp, udp }",
		"ip protocol tcp",
		"ip saddr & 255.0.255.0 == 10.0.1.0",
		"ip saddr > 10.0.0.1",
		"ip saddr 10.0.0.1-10.0.0.9",
		"ip saddr { 10.0.0.1, 10.0.0.2 }",
		"ip daddr 10.0.0.1",
		"ip dscp cs1",
		"ip ttl set 1",
		"ip daddr != 10.0.0.1",
		"ip daddr @theirs",
		"ip saddr . tcp dport { 10.0.0.1 . 80 }",
		"ip saddr . ip daddr . meta l4proto . th dport { 10.0.0.1 . 10.0.0.2 . tcp . 80 }",
		"ip saddr vmap { 10.0.0.1 : accept }",
		"ip length vmap { 0-500 : drop }",
		"tcp flags syn",
		"tcp sport 1024-65535",
		"tcp option maxseg size set 1400",
		"add @theirs { ip saddr timeout 1m }",
		"dnat to 10.0.0.1",
		"dnat ip to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }",
		"meta l4proto tcp dnat ip to ip daddr . meta l4proto . th dport map @single random",
		"reject with icmp host-unreachable",
		"reject with icmp admin-prohibited",
	},
	"postrouting": {
		"masquerade",
		"masquerade random",
		"masquerade fully-random,persistent",
		"snat to 10.0.0.1",
		"ip saddr . ip daddr @hairpin counter masquerade fully-random",
	},
}

// TestForeignRules reads all of them and removes them again.
func TestForeignRules(t *testing.T) {
	h := newHost(t)
	want := desired().State()
	h.load(t, want)
	script := "add set ip nftproxy theirs { type ipv4_addr; flags dynamic, timeout; }\n"
	for chain, list := range foreignRules {
		for _, r := range list {
			script += "add rule ip nftproxy " + chain + " " + r + "\n"
		}
	}
	h.nft(t, script)
	got := h.read(t, want.Name)
	for chain, list := range foreignRules {
		ours := len(want.Tables[rules.IPv4].Chains[chain].Rules)
		read := got.Tables[rules.IPv4].Chains[chain].Rules[ours:]
		if len(read) != len(list) {
			t.Fatalf("%s: read %d rules, want %d", chain, len(read), len(list))
		}
		for i, r := range read {
			if u, ok := r[len(r)-1].(rules.Unknown); !ok || u.What == "" || strings.Contains(u.What, "*") {
				t.Errorf("%s: read as %#v", list[i], r)
			}
		}
	}
	h.load(t, want)
	wantState(t, "after the repair", h.read(t, want.Name), want)
}
