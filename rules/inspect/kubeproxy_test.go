// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
)

// TestRemoveKubeProxy removes what kube-proxy left in all its modes, and nothing else.
func TestRemoveKubeProxy(t *testing.T) {
	restore, save := netnstest.Tool(t, "iptables-nft-restore"), netnstest.Tool(t, "iptables-nft-save")
	restore6 := netnstest.Tool(t, "ip6tables-nft-restore")
	const others = `*nat
:CNI-HOSTPORT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT
-A CNI-HOSTPORT -p tcp --dport 80 -j RETURN
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -j KUBE-ROUTER-INPUT
-A KUBE-FIREWALL -m comment --comment "the kubelet's" -j RETURN
COMMIT
`
	const kubeProxy = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-ABCDEFGHIJKLMNOP - [0:0]
:KUBE-SEP-ABCDEFGHIJKLMNOP - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-ABCDEFGHIJKLMNOP
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-ABCDEFGHIJKLMNOP -m statistic --mode random --probability 0.5 -j KUBE-SEP-ABCDEFGHIJKLMNOP
-A KUBE-SEP-ABCDEFGHIJKLMNOP -s 10.0.0.1/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-ABCDEFGHIJKLMNOP -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:6443
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
`
	rulesOf := func(h host) string {
		var out []string
		for _, line := range strings.Split(h.run(t, "", save), "\n") {
			if !strings.HasPrefix(line, "#") && line != "COMMIT" && !strings.HasPrefix(line, "*") {
				line, _, _ = strings.Cut(line, " [")
				out = append(out, line)
			}
		}
		return strings.Join(out, "\n")
	}
	h := newHost(t)
	for _, text := range []string{others, strings.ReplaceAll(kubeProxy, "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n", "")} {
		h.run(t, text, restore, "--noflush")
	}
	h.run(t, "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n", restore6)
	h.nft(t, "table ip kube-proxy {\n chain x {\n }\n}\ntable ip6 kube-proxy {\n map y {\n type ipv6_addr : verdict\n }\n}\ntable inet kube-proxy-not {\n}\n")

	clean := newHost(t)
	clean.run(t, others, restore, "--noflush")
	want := rulesOf(clean)
	if rulesOf(h) == want {
		t.Fatal("there is nothing to remove")
	}
	found, err := h.FindKubeProxy()
	if err == nil {
		err = h.kernel.Commit(found.Removal())
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := rulesOf(h); got != want {
		t.Errorf("left are\n%s\nwant\n%s", got, want)
	}
	if got := h.nft(t, "", "list", "tables"); strings.Contains(got, "kube-proxy\n") || !strings.Contains(got, "table inet kube-proxy-not") {
		t.Errorf("left are\n%s\nwant another's table only", got)
	}
	for _, row := range []struct{ got, want string }{
		{strings.Join(found.Found(), "\n"), `kube-proxy's table ip kube-proxy is there
kube-proxy's table ip6 kube-proxy is there
6 of kube-proxy's chains are in table ip nat
2 of kube-proxy's chains are in table ip filter
1 of kube-proxy's chains are in table ip6 mangle`},
		{strings.Join(found.Removed(), "\n"), `removed kube-proxy's table ip kube-proxy
removed kube-proxy's table ip6 kube-proxy
removed 6 of kube-proxy's chains, and 3 rules that went to them, from table ip nat
removed 2 of kube-proxy's chains, and 2 rules that went to them, from table ip filter
removed 1 of kube-proxy's chains, and 0 rules that went to them, from table ip6 mangle`},
	} {
		if row.got != row.want {
			t.Errorf("told\n%s\nwant\n%s", row.got, row.want)
		}
	}
	if !found.Serves(rules.IPv4) || !found.Serves(rules.IPv6) {
		t.Error("kube-proxy does not serve both families, and has its table of each")
	}
	again, err := h.FindKubeProxy()
	if err == nil {
		err = h.kernel.Commit(again.Removal())
	}
	if err != nil || len(again.Removed()) > 0 {
		t.Errorf("a second time: %v, %v, want nothing", again.Removed(), err)
	}
}

// TestKubeProxyServes: what kube-proxy makes before it has programmed a Service does not count.
func TestKubeProxyServes(t *testing.T) {
	restore := netnstest.Tool(t, "iptables-nft-restore")
	for _, tt := range []struct {
		name, iptables, nft string
		want                [2]bool
	}{
		{"nothing", "", "", [2]bool{}},
		{"the first chains of iptables mode", "*nat\n:KUBE-PROXY-CANARY - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n", "", [2]bool{}},
		{"a Service in iptables mode", "*nat\n:KUBE-SVC-ABCDEFGHIJKLMNOP - [0:0]\nCOMMIT\n", "", [2]bool{rules.IPv4: true}},
		{"nftables mode, one family so far", "", "table ip6 kube-proxy {\n}\n", [2]bool{rules.IPv6: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			if tt.iptables != "" {
				h.run(t, tt.iptables, restore, "--noflush")
			}
			if tt.nft != "" {
				h.nft(t, tt.nft)
			}
			found, err := h.FindKubeProxy()
			if err != nil {
				t.Fatal(err)
			}
			if got := [2]bool{rules.IPv4: found.Serves(rules.IPv4), rules.IPv6: found.Serves(rules.IPv6)}; got != tt.want {
				t.Errorf("kube-proxy serves %v (IPv4, IPv6), want %v", got, tt.want)
			}
		})
	}
}
