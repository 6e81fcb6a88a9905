// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// iptablesTables are those of iptables-nft that kube-proxy uses in its other mode.
var iptablesTables = []string{"nat", "filter", "mangle"}

// ruleObject is what matters of an object of `nft -j list ruleset`.
type ruleObject struct {
	Family, Table, Name, Chain, Hook, Policy string
	kind, text                               string
}

// ruleset lists all that nftables has on the node. Of nftproxy's tables it has no more than that they are there: of a table with
// flags nft's JSON is broken (seen with 1.0.6).
func (m *migration) ruleset() (out []ruleObject) {
	m.t.Helper()
	tables, err := m.nft("list", "tables")
	must(m.t, err)
	for line := range strings.Lines(tables) {
		var family, name string
		if _, err := fmt.Sscanf(line, "table %s %s", &family, &name); err != nil {
			m.t.Fatalf("nft list tables: %q: %v", line, err)
		}
		if strings.HasPrefix(name, "nftproxy") {
			out = append(out, ruleObject{Family: family, Name: name, kind: "table"})
			continue
		}
		text, err := m.nft("-j", "list", "table", family, name)
		must(m.t, err)
		var list struct {
			Nftables []map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			m.t.Fatalf("nft -j list table %s %s: %v\n%s", family, name, err, text)
		}
		for _, object := range list.Nftables {
			for kind, text := range object {
				o := ruleObject{kind: kind, text: string(text)}
				must(m.t, json.Unmarshal(text, &o))
				out = append(out, o)
			}
		}
	}
	return out
}

// wantTables checks that the node has the tables of the proxy that serves ("": none), the lock of nftproxy where that runs, and,
// of the proxies' rules, nothing else.
func (m *migration) wantTables(proxy string) {
	m.t.Helper()
	var own []string
	switch {
	case proxy == "kube-proxy" && m.mode == "iptables":
		own = iptablesTables
	case proxy == "nftproxy":
		own = []string{proxy, proxy + "_lock"}
	case proxy != "":
		own = []string{proxy}
	}
	tables := map[string]bool{}
	for _, o := range m.ruleset() {
		switch {
		case o.kind == "metainfo", slices.Contains(own, o.Table):
		case o.kind == "table":
			tables[o.Family+" "+o.Name] = true
			if !slices.Contains(own, o.Name) && !m.mayStay(o) {
				m.t.Errorf("left is table %s %s", o.Family, o.Name)
			}
		case !m.mayStay(o):
			m.t.Errorf("left is a %s: %s", o.kind, o.text)
		}
	}
	if proxy != "" && !slices.Equal(own, iptablesTables) && (!tables["ip "+proxy] || !tables["ip6 "+proxy]) {
		m.t.Errorf("there are the tables %v, want those of %s", tables, proxy)
	}
}

// mayStay says whether an object is one that kube-proxy --cleanup leaves, too: after iptables mode, iptables' own base
// chains, which accept all and are empty, and KUBE-FIREWALL, which is the kubelet's. After nftables mode nothing may stay.
func (m *migration) mayStay(o ruleObject) bool {
	switch {
	case m.mode != "iptables":
		return false
	case o.kind == "table":
		return slices.Contains(iptablesTables, o.Name) && strings.HasPrefix(o.Family, "ip")
	case !slices.Contains(iptablesTables, o.Table):
		return false
	case strings.Contains(o.text, `"KUBE-FIREWALL"`):
		return o.Table == "filter"
	}
	return o.kind == "chain" && o.Hook != "" && o.Policy == "accept"
}
