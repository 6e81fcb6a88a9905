// SPDX-License-Identifier: Apache-2.0

//go:build linux

package foreign

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// info is the structure of a match or target of x_tables, as linux/netfilter/xt_NAME.h has it. Numbers are in the machine's order;
// those that are not there are 0.
type info []byte

func (b info) u8(at int) byte {
	if at >= len(b) {
		return 0
	}
	return b[at]
}

func (b info) u16(at int) uint16 {
	if at+2 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint16(b[at:])
}

func (b info) u32(at int) uint32 {
	if at+4 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint32(b[at:])
}

// network16 is a number in network order.
func (b info) network16(at int) uint16 {
	if at+2 > len(b) {
		return 0
	}
	return binary.BigEndian.Uint16(b[at:])
}

// addr is an address of a family.
func (b info) addr(f rules.Family, at int) netip.Addr {
	n := 4
	if f == rules.IPv6 {
		n = 16
	}
	if at+n > len(b) {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(b[at : at+n])
	return a
}

// match is the expression for a match of x_tables.
func (c *compiler) match(name string, revision uint32, v nfnetlink.Data) op {
	b := info(slices.Clone(v))
	switch name {
	case "comment":
		c.rule.facts.comment = nulEnded(b)
		return pass
	case "nfacct": // counts
		return pass
	case "tcp", "udp":
		inverted := b.u8(8) // of udp
		if name == "tcp" {
			inverted = b.u8(11)
			if b.u8(8) != 0 || b.u8(9) != 0 {
				return unknown("match tcp with options or flags")
			}
		}
		c.dport(b.u16(4), b.u16(6), inverted&2 != 0)
		return ports(portRange{b.u16(0), b.u16(2), inverted&1 != 0}, portRange{b.u16(4), b.u16(6), inverted&2 != 0})
	case "sctp":
		return c.sctp(b)
	case "statistic":
		return statistic(b)
	case "addrtype":
		return addrType(revision, b)
	case "mark":
		mark, mask, not := b.u32(0), b.u32(4), b.u8(8) != 0
		return matching(func(w *walk) bool { return (w.mark&mask == mark) != not })
	case "conntrack":
		return c.conntrack(b)
	case "recent":
		return recent(b)
	}
	return unknown("match %q of iptables", name)
}

// nulEnded returns a text that a zero byte ends.
func nulEnded(b []byte) string {
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// portRange is a range of ports in a match.
type portRange struct {
	from, to uint16
	not      bool
}

func (r portRange) has(port uint16) bool { return (port >= r.from && port <= r.to) != r.not }

func ports(source, dest portRange) op {
	return matching(func(w *walk) bool {
		return source.has(w.packet.Src.Port()) && dest.has(w.way.To.Port())
	})
}

// dport notes the port that a rule is about.
func (c *compiler) dport(from, to uint16, not bool) {
	if from == to && !not {
		c.rule.facts.dport = from
	}
}

func (c *compiler) sctp(b info) op {
	const sources, dests, chunks = 1, 2, 4
	flags, inverted := b.u32(284), b.u32(288)
	if flags&chunks != 0 {
		return unknown("match sctp with chunks")
	}
	all := portRange{0, 65535, false}
	source, dest := all, all
	if flags&dests != 0 {
		dest = portRange{b.u16(0), b.u16(2), inverted&dests != 0}
		c.dport(dest.from, dest.to, dest.not)
	}
	if flags&sources != 0 {
		source = portRange{b.u16(4), b.u16(6), inverted&sources != 0}
	}
	return ports(source, dest)
}

// statistic matches or not: both are followed. A probability of 1 always matches.
func statistic(b info) op {
	const certain = 0x80000000
	if b.u16(0) == 0 && b.u16(2) == 0 && b.u32(4) >= certain {
		return pass
	}
	return matching(func(w *walk) bool { return w.choices.next(2) == 0 })
}

func addrType(revision uint32, b info) op {
	source, dest := b.u16(0), b.u16(2)
	notSource, notDest := b.u32(4)&1 != 0, b.u32(4)&2 != 0
	switch {
	case revision == 0:
		notSource, notDest = b.u32(4) != 0, b.u32(8) != 0
	case b.u32(4)&^3 != 0:
		return unknown("match addrtype with an interface")
	}
	has := func(w *walk, types uint16, a netip.Addr) bool {
		if w.packet.Local(a) {
			return types&(1<<unix.RTN_LOCAL) != 0
		}
		return types&(1<<unix.RTN_UNICAST) != 0
	}
	return matching(func(w *walk) bool {
		return (source == 0 || has(w, source, w.packet.Src.Addr()) != notSource) && (dest == 0 || has(w, dest, w.way.To.Addr()) != notDest)
	})
}

// conntrack is the match of revisions 1 to 3, which share the first fields. The packet is the first one of its connection.
func (c *compiler) conntrack(b info) op {
	const (
		state, proto, origSource, origDest, status, origSourcePort, origDestPort = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 6, 1 << 8, 1 << 9
		known                                                                    = state | proto | origSource | origDest | status | origSourcePort | origDestPort
		isNew, snat, dnat                                                        = 1 << 3, 1 << 6, 1 << 7
	)
	flags, inverted := b.u16(146), b.u16(148)
	states, statuses := b.u16(150), b.u16(152)
	if flags&^known != 0 || statuses != 0 && flags&status != 0 {
		return unknown("match conntrack with flags %#x", flags)
	}
	f := c.table.family
	source, sourceMask, dest, destMask := b.addr(f, 0), b.addr(f, 16), b.addr(f, 32), b.addr(f, 48)
	l4, sourcePort, destPort := b.u16(136), b.network16(138), b.network16(140)
	if b.u16(156) != 0 { // revision 3 has ranges, in the machine's order
		sourcePort, destPort = b.u16(138), b.u16(140)
	}
	if flags&origDest != 0 && inverted&origDest == 0 {
		c.rule.facts.daddr = dest.AsSlice()
	}
	if flags&origDestPort != 0 && inverted&origDestPort == 0 {
		c.rule.facts.dport = destPort
	}
	return matching(func(w *walk) bool {
		holds := func(flag uint16, is bool) bool { return flags&flag == 0 || is != (inverted&flag != 0) }
		now := uint16(isNew)
		if w.way.Translated {
			now |= dnat
		}
		if w.way.Masqueraded {
			now |= snat
		}
		return holds(state, states&now != 0) &&
			holds(proto, l4 == uint16(w.packet.Protocol)) &&
			holds(origSource, masked(w.packet.Src.Addr(), sourceMask) == masked(source, sourceMask)) &&
			holds(origDest, masked(w.packet.Dst.Addr(), destMask) == masked(dest, destMask)) &&
			holds(origSourcePort, w.packet.Src.Port() == sourcePort) &&
			holds(origDestPort, w.packet.Dst.Port() == destPort)
	})
}

func masked(a, mask netip.Addr) netip.Addr {
	x, y := a.AsSlice(), mask.AsSlice()
	for i := range min(len(x), len(y)) {
		x[i] &= y[i]
	}
	out, _ := netip.AddrFromSlice(x)
	return out
}

// recent remembers clients for an affinity. The client is new: none is remembered.
func recent(b info) op {
	const check, set, update, remove = 1, 2, 4, 8
	seconds, what, not := b.u32(0), b.u8(8), b.u8(9) != 0
	switch {
	case what&set != 0:
		return pass
	case what&(check|update|remove) != 0:
		return matching(func(w *walk) bool {
			if seconds > 0 {
				w.way.Affinity = seconds
			}
			return not
		})
	}
	return unknown("match recent %d", what)
}

// target is the expression for a target of x_tables.
func (c *compiler) target(name string, revision uint32, v nfnetlink.Data) op {
	b := info(slices.Clone(v))
	switch name {
	case "DNAT":
		return c.dnat(revision, b)
	case "MARK":
		mark, mask := b.u32(0), b.u32(4)
		if revision < 2 {
			return unknown("target MARK of revision %d", revision)
		}
		return func(w *walk) (next, error) {
			w.mark = w.mark&^mask ^ mark
			return goOn, nil
		}
	case "MASQUERADE":
		return masquerade
	case "REJECT":
		c.rule.facts.ends = true
		return reject
	}
	return unknown("target %q of iptables", name)
}

// dnat translates. Revision 0 is of IPv4 alone: how many ranges, and the first.
func (c *compiler) dnat(revision uint32, b info) op {
	flags, address, port := b.u32(0), b.addr(c.table.family, 4), b.network16(36)
	if revision == 0 {
		flags, address, port = b.u32(4), b.addr(rules.IPv4, 8), b.network16(16)
	}
	const mapsAddress, mapsPort = 1, 2
	if flags&mapsAddress == 0 {
		address = netip.Addr{}
	}
	if flags&mapsPort == 0 {
		port = 0
	}
	return func(w *walk) (next, error) { return w.translate(address, port) }
}
