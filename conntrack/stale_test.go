// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"
	"testing"
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
func flow(proto uint8, dst, from string) Flow {
	client := ap("10.1.0.1:999")
	if ap(dst).Addr().Is6() {
		client = ap("[fd00:1::1]:999")
	}
	return Flow{Proto: proto, Orig: Tuple{client, ap(dst)}, Reply: Tuple{ap(from), client}}
}

func answered(f Flow) Flow { f.Status |= StatusSeenReply; return f }

func front(proto uint8, s string) Frontend {
	return Frontend{ap(s).Addr(), proto, ap(s).Port()}
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
	at := func(proto uint8, vip string, endpoints ...string) Target {
		return Target{Frontend: front(proto, vip), Endpoints: aps(endpoints...)}
	}
	node := func(addr string, local []string, endpoints ...string) Target {
		target := Target{Frontend: Frontend{Proto: UDP, Port: 30053}, Endpoints: aps(endpoints...)}
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
	of := func(proto uint8, t Target) Target { t.Proto = proto; return t }
	linkLocal := func(t Target) Target { t.LinkLocal = true; return t }
	masqueraded := func(f Flow, by string) Flow { f.Reply.Dst = ap(by); return f }
	for name, row := range map[string]struct{ stale, not side }{
		"udp, endpoint gone or not": {
			side{flow(UDP, vip, old), at(UDP, vip, current)},
			side{flow(UDP, vip, old), at(UDP, vip, current, old)},
		},
		"udp, answered all the same": {
			side{answered(flow(UDP, vip, old)), at(UDP, vip, current)},
			side{answered(flow(UDP, vip, current)), at(UDP, vip, current)},
		},
		"udp, all endpoints gone": {
			side{flow(UDP, vip, old), at(UDP, vip)},
			side{flow(UDP, vip, vip), at(UDP, vip)},
		},
		"udp, not translated, before the first endpoint": {
			side{flow(UDP, vip, vip), at(UDP, vip, current)},
			side{flow(UDP, vip, vip), at(UDP, vip)},
		},
		"udp, not translated, endpoints of the other family": {
			side{flow(UDP, vip6, vip6), at(UDP, vip6, current6)},
			side{flow(UDP, vip6, vip6), at(UDP, vip6, current)},
		},
		"udp, frontend is an endpoint itself": {
			side{flow(UDP, vip, vip), at(UDP, vip, current)},
			side{flow(UDP, vip, vip), at(UDP, vip, vip, current)},
		},
		"udp, masqueraded": {
			side{masqueraded(flow(UDP, vip, old), "10.3.0.1:7"), at(UDP, vip, current)},
			side{masqueraded(flow(UDP, vip, current), "10.3.0.1:7"), at(UDP, vip, current)},
		},
		"udp, other port of an endpoint": {
			side{flow(UDP, vip, "10.2.0.2:54"), at(UDP, vip, current)},
			side{flow(UDP, vip, current), at(UDP, vip, current)},
		},
		"udp, ipv6": {
			side{flow(UDP, vip6, old6), at(UDP, vip6, current6)},
			side{flow(UDP, vip6, current6), at(UDP, vip6, current6)},
		},
		"other address": {
			side{flow(UDP, vip, old), at(UDP, vip, current)},
			side{flow(UDP, "10.96.0.11:53", old), at(UDP, vip, current)},
		},
		"other port": {
			side{flow(UDP, vip, old), at(UDP, vip, current)},
			side{flow(UDP, "10.96.0.10:54", old), at(UDP, vip, current)},
		},
		"other protocol": {
			side{flow(UDP, vip, old), at(UDP, vip, current)},
			side{flow(TCP, vip, old), at(UDP, vip, current)},
		},
		"protocol without rules": {
			side{flow(UDP, vip, old), at(UDP, vip, current)},
			side{flow(33, vip, old), at(33, vip, current)},
		},
		"sctp, endpoint gone or not": {
			side{flow(SCTP, vip, old), at(SCTP, vip, current)},
			side{flow(SCTP, vip, current), at(SCTP, vip, current)},
		},
		"sctp, answered, translated or not": {
			side{answered(flow(SCTP, vip, old)), at(SCTP, vip, current)},
			side{answered(flow(SCTP, vip, vip)), at(SCTP, vip, current)},
		},
		"sctp, answered, endpoint gone or not ready": {
			side{answered(flow(SCTP, vip, old)), at(SCTP, vip, current)},
			side{answered(flow(SCTP, vip, old)), unready(at(SCTP, vip, current), old)},
		},
		"sctp, endpoint not ready, unanswered or answered": {
			side{flow(SCTP, vip, old), unready(at(SCTP, vip, current), old)},
			side{answered(flow(SCTP, vip, old)), unready(at(SCTP, vip, current), old)},
		},
		"sctp, the only endpoint not ready, unanswered or answered": {
			side{flow(SCTP, vip6, old6), unready(at(SCTP, vip6), old6)},
			side{answered(flow(SCTP, vip6, old6)), unready(at(SCTP, vip6), old6)},
		},
		"udp, endpoint not ready or ready": {
			side{answered(flow(UDP, vip, old)), unready(at(UDP, vip, current), old)},
			side{answered(flow(UDP, vip, old)), at(UDP, vip, current, old)},
		},
		"tcp, endpoint not ready, unanswered or answered": {
			side{flow(TCP, vip, old), unready(at(TCP, vip, current), old)},
			side{answered(flow(TCP, vip, old)), unready(at(TCP, vip, current), old)},
		},
		"sctp, not translated, before the first endpoint": {
			side{flow(SCTP, vip, vip), at(SCTP, vip, current)},
			side{flow(SCTP, vip, vip), at(SCTP, vip)},
		},
		"tcp, answered or not": {
			side{flow(TCP, vip, old), at(TCP, vip, current)},
			side{answered(flow(TCP, vip, old)), at(TCP, vip, current)},
		},
		"tcp, endpoint gone or not": {
			side{flow(TCP, vip, old), at(TCP, vip)},
			side{flow(TCP, vip, old), at(TCP, vip, old)},
		},
		"tcp, not translated, answered or not": {
			side{flow(TCP, vip, vip), at(TCP, vip, current)},
			side{answered(flow(TCP, vip, vip)), at(TCP, vip, current)},
		},
		"tcp, not translated, no endpoint": {
			side{flow(TCP, vip, vip), at(TCP, vip)},
			side{answered(flow(TCP, vip, vip)), at(TCP, vip)},
		},
		"node port, local addresses not known, translated or not": {
			side{flow(UDP, "10.9.0.1:30053", old), node("", nil, current)},
			side{flow(UDP, "10.9.0.1:30053", "10.9.0.1:30053"), node("", nil, current)},
		},
		"node port, local address or another, translated": {
			side{flow(UDP, "10.9.0.1:30053", old), node("", []string{"10.9.0.1", "10.9.0.3"}, current)},
			side{flow(UDP, "10.9.0.2:30053", old), node("", []string{"10.9.0.1", "10.9.0.3"}, current)},
		},
		"node port, local address or another, not translated": {
			side{flow(UDP, "10.9.0.1:30053", "10.9.0.1:30053"), node("", []string{"10.9.0.1", "10.9.0.3"}, current)},
			side{flow(UDP, "10.9.0.2:30053", "10.9.0.2:30053"), node("", []string{"10.9.0.1", "10.9.0.3"}, current)},
		},
		"node port, address that served it, translated or not": {
			side{flow(UDP, "10.9.0.2:30053", current), gone(node("0.0.0.0", []string{"10.9.0.1", "10.9.0.3"}, current), "10.9.0.2", "10.9.0.4")},
			side{flow(UDP, "10.9.0.2:30053", "10.9.0.2:30053"), gone(node("0.0.0.0", []string{"10.9.0.1", "10.9.0.3"}, current), "10.9.0.2", "10.9.0.4")},
		},
		"node port, address that served it, or another": {
			side{answered(flow(UDP, "[fd00:9::2]:30053", current6)), gone(node("::", []string{"fd00:9::1"}, current6), "fd00:9::2")},
			side{answered(flow(UDP, "[fd00:9::3]:30053", current6)), gone(node("::", []string{"fd00:9::1"}, current6), "fd00:9::2")},
		},
		"node port, tcp, address that served it, unanswered or answered": {
			side{flow(TCP, "10.9.0.2:30053", current), of(TCP, gone(node("0.0.0.0", []string{"10.9.0.1"}, current), "10.9.0.2"))},
			side{answered(flow(TCP, "10.9.0.2:30053", current)), of(TCP, gone(node("0.0.0.0", []string{"10.9.0.1"}, current), "10.9.0.2"))},
		},
		"node port, sctp, address that served it, unanswered or answered": {
			side{flow(SCTP, "10.9.0.2:30053", current), of(SCTP, gone(node("0.0.0.0", []string{"10.9.0.1"}, current), "10.9.0.2"))},
			side{answered(flow(SCTP, "10.9.0.2:30053", current)), of(SCTP, gone(node("0.0.0.0", []string{"10.9.0.1"}, current), "10.9.0.2"))},
		},
		"node port, the last address that served it, or another": {
			side{flow(UDP, "10.9.0.2:30053", current), gone(node("0.0.0.0", nil, current), "10.9.0.2")},
			side{flow(UDP, "10.9.0.1:30053", old), gone(node("0.0.0.0", nil, current), "10.9.0.2")},
		},
		"node port, link-local address, translated or not": {
			side{flow(UDP, "[fe80::1]:30053", old6), linkLocal(node("::", nil, current6))},
			side{flow(UDP, "[fe80::1]:30053", "[fe80::1]:30053"), linkLocal(node("::", nil, current6))},
		},
		"node port, link-local address beside others, or another one": {
			side{flow(UDP, "169.254.7.7:30053", old), linkLocal(node("0.0.0.0", []string{"10.9.0.1"}, current))},
			side{flow(UDP, "10.9.0.2:30053", old), linkLocal(node("0.0.0.0", []string{"10.9.0.1"}, current))},
		},
		"node port, only link-local addresses, or another one": {
			side{flow(UDP, "169.254.7.7:30053", old), linkLocal(node("0.0.0.0", nil, current))},
			side{flow(UDP, "10.9.0.2:30053", old), linkLocal(node("0.0.0.0", nil, current))},
		},
		"node port, endpoint gone or not": {
			side{flow(UDP, "10.9.0.1:30053", old), node("", nil, current)},
			side{flow(UDP, "10.9.0.1:30053", current), node("", nil, current)},
		},
		"node port, port or another": {
			side{flow(UDP, "10.9.0.1:30053", old), node("", nil, current)},
			side{flow(UDP, "10.9.0.1:30054", old), node("", nil, current)},
		},
		"node port of ipv4": {
			side{flow(UDP, "10.9.0.1:30053", old), node("0.0.0.0", nil, current)},
			side{flow(UDP, "[fd00:9::1]:30053", old6), node("0.0.0.0", nil, current)},
		},
		"node port of ipv6": {
			side{flow(UDP, "[fd00:9::1]:30053", old6), node("::", nil, current6)},
			side{flow(UDP, "10.9.0.1:30053", old), node("::", nil, current6)},
		},
		"node port of both families": {
			side{flow(UDP, "[fd00:9::1]:30053", old6), node("", nil, current, current6)},
			side{flow(UDP, "[fd00:9::1]:30053", current6), node("", nil, current, current6)},
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
	own := Target{Frontend: front(UDP, dst), Endpoints: aps(old)}
	node := Target{Frontend: Frontend{Proto: UDP, Port: 30053}, Endpoints: aps(current)}
	if i := newIndex([]Target{node, own}); i.stale(flow(UDP, dst, old)) {
		t.Error("a flow to an endpoint of its own address is stale for a node port")
	}
	if i := newIndex([]Target{node}); !i.stale(flow(UDP, dst, old)) {
		t.Error("without that address it is not stale")
	}
}
