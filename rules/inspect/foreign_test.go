// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/foreign"
)

// odd has in kube-proxy's table expressions of each kind that is known, and one that is not.
const odd = `table ip kube-proxy {
	set ranges { type ipv4_addr; flags interval; elements = { 203.0.113.0/28, 203.0.113.128-203.0.113.130 } }
	set pairs { type ipv4_addr . inet_service; flags interval; elements = { 203.0.113.0/24 . 100-200 } }
	set clients { type ipv4_addr; flags dynamic,timeout; timeout 30s; }
	chain first { type nat hook prerouting priority dstnat; policy accept;
		ip daddr 10.0.0.1 tcp dport 1-9 dnat to 10.1.0.1:80
		ip daddr 10.0.0.2 tcp dport vmap { 1 : drop, 2 : goto chosen, 3 : jump back, 4 : accept }
		ip daddr 10.0.0.3 ip saddr @ranges dnat to 10.1.0.3
		ip daddr 10.0.0.3 ip saddr != @ranges reject
		ip daddr . tcp dport @pairs drop
		ip daddr 10.0.0.4 ip saddr @clients drop
		ip daddr 10.0.0.4 update @clients { ip saddr } meta l4proto tcp dnat to 10.1.0.4:80
		ip daddr 10.0.0.5 jhash ip saddr mod 2 vmap { 0 : drop, 1 : accept }
		ip daddr 10.0.0.6 meta mark set 0x4000 meta l4proto tcp dnat to 10.1.0.6:80
		ip daddr 10.0.0.7 meta iifname "eth*" meta l4proto tcp dnat to 10.1.0.7:80
		ip daddr 10.0.0.8 tcp dport != { 1, 2 } dnat to 10.1.0.8:80
		fib daddr type local tcp dport 30080 dnat to 10.1.0.9:80
		tcp dport > 60000 drop
	}
	chain back { return; drop; }
	chain chosen { numgen random mod 3 vmap { 0 : jump one, 1 : jump two, 2 : return }; drop; }
	chain one { meta mark set mark or 0x4000; meta l4proto tcp dnat to 10.1.0.1:80; }
	chain two { meta l4proto tcp dnat to 10.1.0.2:80; }
	chain late { type filter hook forward priority filter; policy accept;
		ct status dnat ct original ip daddr 10.0.0.1 tcp dport 80 ct original proto-dst 9 drop
	}
	chain last { type nat hook postrouting priority srcnat; policy accept;
		meta mark and 0x4000 == 0 return
		masquerade
	}
}`

// TestForeign follows packets through rules of another program.
func TestForeign(t *testing.T) {
	netnstest.Tool(t, "nft")
	ns, err := netns.New("node")
	must(t, err)
	defer func() { must(t, ns.Close()) }()
	var r *foreign.Ruleset
	must(t, ns.Do(func() error {
		nft := exec.Command("nft", "-f", "-")
		nft.Stdin = strings.NewReader(odd)
		if out, err := nft.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		i, err := Open()
		if err != nil {
			return err
		}
		defer func() { _ = i.Close() }()
		dumps, err := i.KubeProxyRules()
		if err != nil {
			return err
		}
		r, err = foreign.New(dumps)
		return err
	}))
	for _, tt := range []struct {
		to, from, want string
	}{
		{"10.0.0.1:5", "203.0.113.1", "10.1.0.1:80"},
		{"10.0.0.1:9", "203.0.113.1", "dropped"},
		{"10.0.0.1:10", "203.0.113.1", "untouched"},
		{"10.0.0.2:1", "203.0.113.1", "dropped"},
		{"10.0.0.2:2", "203.0.113.1", "10.1.0.1:80 masqueraded|10.1.0.2:80|untouched"},
		{"10.0.0.2:3", "203.0.113.1", "untouched"},
		{"10.0.0.2:4", "203.0.113.1", "untouched"},
		{"10.0.0.3:80", "203.0.113.15", "10.1.0.3:80"},
		{"10.0.0.3:80", "203.0.113.16", "rejected"},
		{"10.0.0.3:80", "203.0.113.127", "rejected"},
		{"10.0.0.3:80", "203.0.113.130", "10.1.0.3:80"},
		{"10.0.0.3:80", "203.0.113.131", "rejected"},
		{"203.0.113.7:99", "203.0.113.1", "untouched"},
		{"203.0.113.7:100", "203.0.113.1", "dropped"},
		{"203.0.113.7:200", "203.0.113.1", "dropped"},
		{"203.0.113.7:201", "203.0.113.1", "untouched"},
		{"203.0.114.7:100", "203.0.113.1", "untouched"},
		{"10.0.0.4:80", "203.0.113.1", "10.1.0.4:80 for 30 s"},
		{"10.0.0.5:80", "203.0.113.1", `error: follow a connection to 10.0.0.5:80: table ip kube-proxy: rule 8 of chain first: expression "hash" is not known`},
		{"10.0.0.6:80", "203.0.113.1", "10.1.0.6:80 masqueraded"},
		{"10.0.0.7:80", "203.0.113.1", "10.1.0.7:80"},
		{"10.0.0.8:1", "203.0.113.1", "untouched"},
		{"10.0.0.8:3", "203.0.113.1", "10.1.0.8:80"},
		{"172.18.0.2:30080", "203.0.113.1", "10.1.0.9:80"},
		{"172.18.0.3:30080", "203.0.113.1", "untouched"},
		{"10.9.9.9:60001", "203.0.113.1", "dropped"},
		{"10.9.9.9:60000", "203.0.113.1", "untouched"},
	} {
		ways, err := r.Connect(foreign.Packet{Protocol: rules.TCP, Src: netip.AddrPortFrom(netip.MustParseAddr(tt.from), 40000), Dst: netip.MustParseAddrPort(tt.to),
			Interface: "eth0", Local: func(a netip.Addr) bool { return a == netip.MustParseAddr("172.18.0.2") }})
		if got := waysText(ways, err); got != tt.want {
			t.Errorf("from %s to %s: %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
}

func waysText(ways []foreign.Way, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	var out []string
	for _, w := range ways {
		text := w.To.String()
		switch {
		case w.Rejected:
			text = "rejected"
		case w.Dropped:
			text = "dropped"
		case !w.Translated:
			text = "untouched"
		}
		if w.Masqueraded {
			text += " masqueraded"
		}
		if w.Affinity > 0 {
			text += fmt.Sprintf(" for %d s", w.Affinity)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, "|")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
