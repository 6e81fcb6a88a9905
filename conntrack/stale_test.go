// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func aps(list ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range list {
		out = append(out, ap(s))
	}
	return out
}

// flow returns a flow from a client to dst that is answered by from.
func flow(proto rules.Protocol, dst, from string) Flow {
	client := ap("10.1.0.1:999")
	if ap(dst).Addr().Is6() {
		client = ap("[fd00:1::1]:999")
	}
	return Flow{Protocol: proto, Orig: Tuple{client, ap(dst)}, Reply: Tuple{ap(from), client}}
}

func answered(f Flow) Flow { f.Status |= StatusSeenReply; return f }

func front(proto rules.Protocol, s string) rules.Frontend {
	return rules.Frontend{Addr: ap(s).Addr(), Protocol: proto, Port: ap(s).Port()}
}

// stale says what the decision for one target is.
func stale(f Flow, t Target) bool { return newIndex([]Target{t}).stale(f) }

// Each row has what makes its flow stale and the nearest case in which it is not.
func TestStale(t *testing.T) {
	const vip, old, current = "10.96.0.10:53", "10.2.0.1:53", "10.2.0.2:53"
	const vip6, old6, current6 = "[fd00:96::10]:53", "[fd00:2::1]:53", "[fd00:2::2]:53"
	type side struct {
		flow   Flow
		target Target
	}
	at := func(proto rules.Protocol, vip string, endpoints ...string) Target {
		return Target{Frontend: front(proto, vip), Endpoints: aps(endpoints...)}
	}
	node := func(addr string, local []string, endpoints ...string) Target {
		target := Target{Frontend: rules.Frontend{Protocol: rules.UDP, Port: 30053}, Endpoints: aps(endpoints...)}
		if addr != "" {
			target.Addr = netip.MustParseAddr(addr)
		}
		for _, a := range local {
			target.Local = append(target.Local, netip.MustParseAddr(a))
		}
		return target
	}
	unready := func(t Target, endpoints ...string) Target { t.Unready = aps(endpoints...); return t }
	gone := func(t Target, addrs ...string) Target {
		for _, a := range addrs {
			t.Left = append(t.Left, netip.MustParseAddr(a))
		}
		return t
	}
	of := func(proto rules.Protocol, t Target) Target { t.Protocol = proto; return t }
	linkLocal := func(t Target) Target { t.LinkLocal = true; return t }
	masqueraded := func(f Flow, by string) Flow { f.Reply.Dst = ap(by); return f }
	for name, row := range map[string]struct{ stale, not side }{
		"udp, endpoint gone or not": {
			side{flow(rules.UDP, vip, old), at(rules.UDP, vip, current)},
			side{flow(rules.UDP, vip, old), at(rules.UDP, vip, current, old)},
		},
		"udp, answered all the same": {
			side{answered(flow(rules.UDP, vip, old)), at(rules.UDP, vip, current)},
			side{answered(flow(rules.UDP, vip, current)), at(rules.UDP, vip, current)},
		},
		"udp, all endpoints gone": {
			side{flow(rules.UDP, vip, old), at(rules.UDP, vip)},
			side{flow(rules.UDP, vip, vip), at(rules.UDP, vip)},
		},
		"udp, not translated, before the first endpoint": {
			side{flow(rules.UDP, vip, vip), at(rules.UDP, vip, current)},
			side{flow(rules.UDP, vip, vip), at(rules.UDP, vip)},
		},
		"udp, not translated, endpoints of the other family": {
			side{flow(rules.UDP, vip6, vip6), at(rules.UDP, vip6, current6)},
			side{flow(rules.UDP, vip6, vip6), at(rules.UDP, vip6, current)},
		},
		"udp, frontend is an endpoint itself": {
			side{flow(rules.UDP, vip, vip), at(rules.UDP, vip, current)},
			side{flow(rules.UDP, vip, vip), at(rules.UDP, vip, vip, current)},
		},
		"udp, masqueraded": {
			side{masqueraded(flow(rules.UDP, vip, old), "10.3.0.1:7"), at(rules.UDP, vip, current)},
			side{masqueraded(flow(rules.UDP, vip, current), "10.3.0.1:7"), at(rules.UDP, vip, current)},
		},
		"udp, other port of an endpoint": {
			side{flow(rules.UDP, vip, "10.2.0.2:54"), at(rules.UDP, vip, current)},
			side{flow(rules.UDP, vip, current), at(rules.UDP, vip, current)},
		},
		"udp, ipv6": {
			side{flow(rules.UDP, vip6, old6), at(rules.UDP, vip6, current6)},
			side{flow(rules.UDP, vip6, current6), at(rules.UDP, vip6, current6)},
		},
		"other address": {
			side{flow(rules.UDP, vip, old), at(rules.UDP, vip, current)},
			side{flow(rules.UDP, "10.96.0.11:53", old), at(rules.UDP, vip, current)},
		},
		"other port": {
			side{flow(rules.UDP, vip, old), at(rules.UDP, vip, current)},
			side{flow(rules.UDP, "10.96.0.10:54", old), at(rules.UDP, vip, current)},
		},
		"other protocol": {
			side{flow(rules.UDP, vip, old), at(rules.UDP, vip, current)},
			side{flow(rules.TCP, vip, old), at(rules.UDP, vip, current)},
		},
		"protocol without rules": {
			side{flow(rules.UDP, vip, old), at(rules.UDP, vip, current)},
			side{flow(33, vip, old), at(33, vip, current)},
		},
		"sctp, endpoint gone or not": {
			side{flow(rules.SCTP, vip, old), at(rules.SCTP, vip, current)},
			side{flow(rules.SCTP, vip, current), at(rules.SCTP, vip, current)},
		},
		"sctp, answered, translated or not": {
			side{answered(flow(rules.SCTP, vip, old)), at(rules.SCTP, vip, current)},
			side{answered(flow(rules.SCTP, vip, vip)), at(rules.SCTP, vip, current)},
		},
		"sctp, answered, endpoint gone or not ready": {
			side{answered(flow(rules.SCTP, vip, old)), at(rules.SCTP, vip, current)},
			side{answered(flow(rules.SCTP, vip, old)), unready(at(rules.SCTP, vip, current), old)},
		},
		"sctp, endpoint not ready, unanswered or answered": {
			side{flow(rules.SCTP, vip, old), unready(at(rules.SCTP, vip, current), old)},
			side{answered(flow(rules.SCTP, vip, old)), unready(at(rules.SCTP, vip, current), old)},
		},
		"sctp, the only endpoint not ready, unanswered or answered": {
			side{flow(rules.SCTP, vip6, old6), unready(at(rules.SCTP, vip6), old6)},
			side{answered(flow(rules.SCTP, vip6, old6)), unready(at(rules.SCTP, vip6), old6)},
		},
		"udp, endpoint not ready or ready": {
			side{answered(flow(rules.UDP, vip, old)), unready(at(rules.UDP, vip, current), old)},
			side{answered(flow(rules.UDP, vip, old)), at(rules.UDP, vip, current, old)},
		},
		"tcp, endpoint not ready, unanswered or answered": {
			side{flow(rules.TCP, vip, old), unready(at(rules.TCP, vip, current), old)},
			side{answered(flow(rules.TCP, vip, old)), unready(at(rules.TCP, vip, current), old)},
		},
		"sctp, not translated, before the first endpoint": {
			side{flow(rules.SCTP, vip, vip), at(rules.SCTP, vip, current)},
			side{flow(rules.SCTP, vip, vip), at(rules.SCTP, vip)},
		},
		"tcp, answered or not": {
			side{flow(rules.TCP, vip, old), at(rules.TCP, vip, current)},
			side{answered(flow(rules.TCP, vip, old)), at(rules.TCP, vip, current)},
		},
		"tcp, endpoint gone or not": {
			side{flow(rules.TCP, vip, old), at(rules.TCP, vip)},
			side{flow(rules.TCP, vip, old), at(rules.TCP, vip, old)},
		},
		"tcp, not translated, answered or not": {
			side{flow(rules.TCP, vip, vip), at(rules.TCP, vip, current)},
			side{answered(flow(rules.TCP, vip, vip)), at(rules.TCP, vip, current)},
		},
		"tcp, not translated, no endpoint": {
			side{flow(rules.TCP, vip, vip), at(rules.TCP, vip)},
			side{answered(flow(rules.TCP, vip, vip)), at(rules.TCP, vip)},
		},
		"node port, local addresses not known, translated or not": {
			side{flow(rules.UDP, "10.9.0.1:30053", old), node("", nil, current)},
			side{flow(rules.UDP, "10.9.0.1:30053", "10.9.0.1:30053"), node("", nil, current)},
		},
		"node port, local address or another, translated": {
			side{flow(rules.UDP, "10.9.0.1:30053", old), node("", []string{"10.9.0.1", "10.9.0.3"}, current)},
			side{flow(rules.UDP, "10.9.0.2:30053", old), node("", []string{"10.9.0.1", "10.9.0.3"}, current)},
		},
		"node port, local address or another, not translated": {
			side{flow(rules.UDP, "10.9.0.1:30053", "10.9.0.1:30053"), node("", []string{"10.9.0.1", "10.9.0.3"}, current)},
			side{flow(rules.UDP, "10.9.0.2:30053", "10.9.0.2:30053"), node("", []string{"10.9.0.1", "10.9.0.3"}, current)},
		},
		"node port, address that served it, translated or not": {
			side{flow(rules.UDP, "10.9.0.2:30053", current), gone(node("0.0.0.0", []string{"10.9.0.1", "10.9.0.3"}, current), "10.9.0.2", "10.9.0.4")},
			side{flow(rules.UDP, "10.9.0.2:30053", "10.9.0.2:30053"), gone(node("0.0.0.0", []string{"10.9.0.1", "10.9.0.3"}, current), "10.9.0.2", "10.9.0.4")},
		},
		"node port, address that served it, or another": {
			side{answered(flow(rules.UDP, "[fd00:9::2]:30053", current6)), gone(node("::", []string{"fd00:9::1"}, current6), "fd00:9::2")},
			side{answered(flow(rules.UDP, "[fd00:9::3]:30053", current6)), gone(node("::", []string{"fd00:9::1"}, current6), "fd00:9::2")},
		},
		"node port, tcp, address that served it, unanswered or answered": {
			side{flow(rules.TCP, "10.9.0.2:30053", current), of(rules.TCP, gone(node("0.0.0.0", []string{"10.9.0.1"}, current), "10.9.0.2"))},
			side{answered(flow(rules.TCP, "10.9.0.2:30053", current)), of(rules.TCP, gone(node("0.0.0.0", []string{"10.9.0.1"}, current), "10.9.0.2"))},
		},
		"node port, sctp, address that served it, unanswered or answered": {
			side{flow(rules.SCTP, "10.9.0.2:30053", current), of(rules.SCTP, gone(node("0.0.0.0", []string{"10.9.0.1"}, current), "10.9.0.2"))},
			side{answered(flow(rules.SCTP, "10.9.0.2:30053", current)), of(rules.SCTP, gone(node("0.0.0.0", []string{"10.9.0.1"}, current), "10.9.0.2"))},
		},
		"node port, the last address that served it, or another": {
			side{flow(rules.UDP, "10.9.0.2:30053", current), gone(node("0.0.0.0", nil, current), "10.9.0.2")},
			side{flow(rules.UDP, "10.9.0.1:30053", old), gone(node("0.0.0.0", nil, current), "10.9.0.2")},
		},
		"node port, link-local address, translated or not": {
			side{flow(rules.UDP, "[fe80::1]:30053", old6), linkLocal(node("::", nil, current6))},
			side{flow(rules.UDP, "[fe80::1]:30053", "[fe80::1]:30053"), linkLocal(node("::", nil, current6))},
		},
		"node port, link-local address beside others, or another one": {
			side{flow(rules.UDP, "169.254.7.7:30053", old), linkLocal(node("0.0.0.0", []string{"10.9.0.1"}, current))},
			side{flow(rules.UDP, "10.9.0.2:30053", old), linkLocal(node("0.0.0.0", []string{"10.9.0.1"}, current))},
		},
		"node port, only link-local addresses, or another one": {
			side{flow(rules.UDP, "169.254.7.7:30053", old), linkLocal(node("0.0.0.0", nil, current))},
			side{flow(rules.UDP, "10.9.0.2:30053", old), linkLocal(node("0.0.0.0", nil, current))},
		},
		"node port, endpoint gone or not": {
			side{flow(rules.UDP, "10.9.0.1:30053", old), node("", nil, current)},
			side{flow(rules.UDP, "10.9.0.1:30053", current), node("", nil, current)},
		},
		"node port, port or another": {
			side{flow(rules.UDP, "10.9.0.1:30053", old), node("", nil, current)},
			side{flow(rules.UDP, "10.9.0.1:30054", old), node("", nil, current)},
		},
		"node port of ipv4": {
			side{flow(rules.UDP, "10.9.0.1:30053", old), node("0.0.0.0", nil, current)},
			side{flow(rules.UDP, "[fd00:9::1]:30053", old6), node("0.0.0.0", nil, current)},
		},
		"node port of ipv6": {
			side{flow(rules.UDP, "[fd00:9::1]:30053", old6), node("::", nil, current6)},
			side{flow(rules.UDP, "10.9.0.1:30053", old), node("::", nil, current6)},
		},
		"node port of both families": {
			side{flow(rules.UDP, "[fd00:9::1]:30053", old6), node("", nil, current, current6)},
			side{flow(rules.UDP, "[fd00:9::1]:30053", current6), node("", nil, current, current6)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !stale(row.stale.flow, row.stale.target) {
				t.Errorf("%s is not stale for %+v", row.stale.flow, row.stale.target)
			}
			if stale(row.not.flow, row.not.target) {
				t.Errorf("%s is stale for %+v", row.not.flow, row.not.target)
			}
		})
	}
}

func TestOwnAddressWinsOverNodePort(t *testing.T) {
	const dst, old, current = "10.9.0.1:30053", "10.2.0.1:53", "10.2.0.2:53"
	own := Target{Frontend: front(rules.UDP, dst), Endpoints: aps(old)}
	node := Target{Frontend: rules.Frontend{Protocol: rules.UDP, Port: 30053}, Endpoints: aps(current)}
	if i := newIndex([]Target{node, own}); i.stale(flow(rules.UDP, dst, old)) {
		t.Error("a flow to an endpoint of its own address is stale for a node port")
	}
	if i := newIndex([]Target{node}); !i.stale(flow(rules.UDP, dst, old)) {
		t.Error("without that address it is not stale")
	}
}
