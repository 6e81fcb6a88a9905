// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
)

// foreignThings are what somebody may put into our tables besides chains, rules and elements: nft's commands, and a
// part of what the difference says. TABLE, TYPE, ADDR and OTHER are those of a family. What begins with anew replaces
// the table: with what is in it nothing of the kind can be done.
var foreignThings = []struct{ commands, want string }{
	{"add counter TABLE theirs", "extra counter theirs"},
	{"add quota TABLE theirs over 10 mbytes", "extra quota theirs"},
	{"add limit TABLE theirs { rate 10/second\n }", "extra limit theirs"},
	{"add ct helper TABLE theirs { type \"ftp\" protocol tcp\n }", "extra ct helper theirs"},
	{"add ct timeout TABLE theirs { protocol tcp\n policy = { established: 100 }\n }", "extra ct timeout theirs"},
	{"add ct expectation TABLE theirs { protocol tcp\n dport 99\n timeout 10s\n size 5\n }", "extra ct expectation theirs"},
	{"add synproxy TABLE theirs { mss 1460\n wscale 7\n }", "extra synproxy theirs"},
	{"add counter TABLE theirs\nadd map TABLE their-map { type TYPE : counter\n }\nadd element TABLE their-map { ADDR : \"theirs\" }\n" +
		"add rule TABLE services counter name \"theirs\"", "extra counter theirs"},
	{"delete table TABLE\nadd table TABLE { comment \"x\"\n }", `the table has comment "x"`},
	{anew + "add chain TABLE services { comment \"x\"\n }", `chain services has comment "x"`},
	{anew + "add chain TABLE postrouting { type nat hook postrouting priority srcnat\n comment \"x\"\n }", `chain postrouting has comment "x"`},
	{anew + "add set TABLE cluster-ips { type TYPE\n comment \"x\"\n }", `set cluster-ips has comment "x"`},
	{anew + "add set TABLE cluster-ips { type TYPE\n size 3\n }", "set cluster-ips has a size"},
	{anew + "add set TABLE cluster-ips { type TYPE\n policy memory\n }", "set cluster-ips has a policy"},
	{anew + "add set TABLE cluster-ips { type TYPE\n counter\n }", "a set or a hook is of another kind"},
	{anew + "add set TABLE cluster-ips { type TYPE\n timeout 10m\n }", "a set or a hook is of another kind"},
	{anew + "add set TABLE cluster-ips { type TYPE\n flags constant\n }", "a set or a hook is of another kind"},
	{"add element TABLE cluster-ips { * }", "set cluster-ips has an element for all keys (*)"},
	{"add element TABLE hairpin { ADDR . OTHER }", "set hairpin has an element of two addresses (ADDR . OTHER)"},
	{"add element TABLE hairpin { OTHER . ADDR, ADDR . OTHER, ADDR . ADDR }", "set hairpin has an element of two addresses (OTHER . ADDR)"},
	{"add element TABLE service-ips { * : drop }", "set service-ips has an element for all keys (*)"},
	{"delete element TABLE cluster-ips { ADDR }\nadd element TABLE cluster-ips { ADDR comment \"x\" }", `ADDR (comment "x")`},
	{"delete element TABLE service-ips { ADDR . tcp . 80 }\nadd element TABLE service-ips { ADDR . tcp . 80 comment \"x\" : goto service/default/web-0/http }",
		`ADDR . tcp . 80 (comment "x") service/default/web-0/http`},
	{"add element TABLE cluster-ips { OTHER comment \"x\" }", `element of cluster-ips: OTHER (comment "x")`},
	{"add element TABLE service-cidrs { OTHER comment \"x\" }", `OTHER (comment "x")`},
	{"add rule TABLE services return comment \"x\"", `return # unknown: comment "x"`},
	{"add rule TABLE services return comment \"\x1b[2J\"", `return # unknown: comment "\x1b[2J"`},
	{"add chain TABLE output { policy drop\n }", "a set or a hook is of another kind"},
}

const anew = "delete table TABLE\nadd table TABLE\n"

// needCatchAll skips the test of an element for all keys on kernels before 5.13, which have none.
func needCatchAll(t *testing.T, commands string) {
	t.Helper()
	if !strings.Contains(commands, "{ *") {
		return
	}
	add := exec.CommandContext(t.Context(), netnstest.Tool(t, "nft"), "add table ip theirs; add set ip theirs them { type ipv4_addr; }; add element ip theirs them { * }")
	if err := newHost(t).ns.Do(add.Run); err != nil {
		t.Skip("this kernel has no elements for all keys")
	}
}

// TestForeignThings notices all of them, in both families, says what it is, and mends it.
func TestForeignThings(t *testing.T) {
	for _, f := range rules.Families {
		words := strings.NewReplacer("TABLE", f.String()+" nftproxy", "TYPE", map[rules.Family]string{rules.IPv4: "ipv4_addr", rules.IPv6: "ipv6_addr"}[f],
			"ADDR", address(f, 96, 0).String(), "OTHER", address(f, 96, 99).String())
		for _, tt := range foreignThings {
			t.Run(words.Replace(tt.want), func(t *testing.T) {
				needCatchAll(t, tt.commands)
				h := newHost(t)
				want := desired(append(services(rules.IPv4, 1, 3), services(rules.IPv6, 1, 3)...)...).State()
				h.load(t, want)
				h.nft(t, words.Replace(tt.commands))
				have := h.read(t, want.Name)
				if got := differencesText(have, want); !strings.Contains(got, words.Replace(tt.want)) {
					t.Errorf("the difference is %q", got)
				}
				other := rules.Families[1-f]
				if have.Tables[f] = want.Tables[f]; len(rules.Differences(have, want)) > 0 {
					t.Errorf("%s differs, too", other)
				}
				h.load(t, want)
				have = h.read(t, want.Name)
				wantState(t, "after the repair", have, want)
			})
		}
	}
}

// differencesText writes differences as the command diff does.
func differencesText(have, want rules.State) string {
	var b strings.Builder
	for _, d := range rules.Differences(have, want) {
		fmt.Fprintf(&b, "%s %s %s %s\n", d.Kind, d.Family, d.Object, strings.Join(d.Have, "\n"))
	}
	return strings.ReplaceAll(strings.ReplaceAll(b.String(), "extra ip ", "extra "), "extra ip6 ", "extra ")
}

// TestForeignFlowtable notices a flowtable and removes it, where the kernel has them.
func TestForeignFlowtable(t *testing.T) {
	h := newHost(t)
	want := desired().State()
	h.load(t, want)
	c, err := nftables.New(nftables.WithNetNSFd(h.ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	c.AddFlowtable(&nftables.Flowtable{Table: tableIP4(), Name: "theirs", Hooknum: nftables.FlowtableHookIngress, Priority: nftables.FlowtablePriorityFilter})
	if err := c.Flush(); err != nil {
		t.Skipf("this kernel makes no flowtable: %v", err)
	}
	if got := differencesText(h.read(t, want.Name), want); !strings.Contains(got, "extra flowtable theirs") {
		t.Errorf("the difference is %q", got)
	}
	h.load(t, want)
	wantState(t, "after the repair", h.read(t, want.Name), want)
}
