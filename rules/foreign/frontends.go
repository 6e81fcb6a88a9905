// SPDX-License-Identifier: Apache-2.0

//go:build linux

package foreign

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// Frontends returns what kube-proxy's rules serve or refuse, sorted, each once. A NodePort has the unspecified address.
func (r *Ruleset) Frontends() []Frontend {
	found := map[rules.Frontend]string{}
	add := func(f rules.Frontend, service string) {
		if found[f] == "" {
			found[f] = service
		}
	}
	for _, t := range r.tables {
		if t.name == KubeProxyTable {
			t.ofMaps(add)
		} else {
			t.ofChains(add)
		}
	}
	var out []Frontend
	for f, service := range found {
		out = append(out, Frontend{f, service})
	}
	slices.SortFunc(out, func(a, b Frontend) int { return a.Compare(b.Frontend) })
	return out
}

// ofMaps finds the frontends of kube-proxy's nftables mode: keys of its maps, with fields of 4 bytes or an address's.
func (t *table) ofMaps(add func(rules.Frontend, string)) {
	n := 4
	if t.family == rules.IPv6 {
		n = 16
	}
	for _, name := range []string{"service-ips", "no-endpoint-services", "service-nodeports", "no-endpoint-nodeports"} {
		s := t.sets[name]
		if s == nil {
			continue
		}
		for _, e := range s.exact {
			key, address := e.key, t.family.Unspecified()
			if !strings.HasSuffix(name, "nodeports") {
				if len(key) < n {
					continue
				}
				address, _ = netip.AddrFromSlice(key[:n])
				key = key[n:]
			}
			if len(key) < 6 {
				continue
			}
			if p, ok := protocolOf(key[0]); ok {
				add(rules.Frontend{Addr: address, Protocol: p, Port: binary.BigEndian.Uint16(key[4:])}, serviceOf(e))
			}
		}
	}
}

// serviceOf reads the name of a Service: a comment has it, or that of the chain, which is service-HASH-NAMESPACE/NAME/PROTOCOL/PORT.
func serviceOf(e *element) string {
	if e.comment != "" {
		return e.comment
	}
	if e.verdict == nil {
		return ""
	}
	parts := strings.SplitN(e.verdict.chain, "-", 3)
	if len(parts) < 3 {
		return ""
	}
	words := strings.Split(parts[2], "/")
	if len(words) < 4 {
		return ""
	}
	name := words[0] + "/" + words[1]
	if words[3] != "" {
		name += ":" + words[3]
	}
	return name
}

// ofChains finds the frontends of kube-proxy's iptables mode: rules that lead to a Service's chain, or refuse.
func (t *table) ofChains(add func(rules.Frontend, string)) {
	for _, name := range []string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES"} {
		c := t.chains[name]
		if c == nil {
			continue
		}
		for i := range c.rules {
			f := &c.rules[i].facts
			p, ok := protocolOf(f.proto)
			if !ok || f.dport == 0 || !f.ends && !strings.HasPrefix(f.goes, "KUBE-") {
				continue
			}
			address := t.family.Unspecified()
			if f.daddr != nil {
				address, _ = netip.AddrFromSlice(f.daddr)
			}
			service, _, _ := strings.Cut(f.comment, " ")
			add(rules.Frontend{Addr: address, Protocol: p, Port: f.dport}, service)
		}
	}
}

func protocolOf(n byte) (rules.Protocol, bool) {
	switch n {
	case unix.IPPROTO_TCP:
		return rules.TCP, true
	case unix.IPPROTO_UDP:
		return rules.UDP, true
	case unix.IPPROTO_SCTP:
		return rules.SCTP, true
	}
	return 0, false
}
