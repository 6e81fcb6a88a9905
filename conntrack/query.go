// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// maxFilteredDumps is the number of frontends of one family and protocol up to
// which each has a dump of its own. With 100,000 entries, all UDP, a dump for one
// frontend takes 35 ms and one of all UDP entries 200 ms (2 cores, Linux 6.18): even
// at six frontends there, and earlier where UDP is a small part of the table.
const maxFilteredDumps = 4

// query selects entries by their original direction. Zero fields select all. Without
// a family the kernel does not filter.
type query struct {
	family uint8 // AF_INET, AF_INET6
	proto  rules.Protocol
	addr   netip.Addr
	port   uint16
	// unanswered leaves out what was answered.
	unanswered bool
}

// matches is the query in user space, but for the family, which every kernel filters.
func (q query) matches(f Flow) bool {
	dst := f.Orig.Dst
	return (q.proto == 0 || f.Protocol == q.proto) &&
		(!q.addr.IsValid() || dst.Addr() == q.addr) &&
		(q.port == 0 || dst.Port() == q.port) &&
		(!q.unanswered || f.Status&StatusSeenReply == 0)
}

// queries returns the dumps that see the flows to a frontend.
func queries(f rules.Frontend) []query {
	q := query{proto: f.Protocol, port: f.Port}
	if f.Addr.IsValid() {
		q.family = familyOf(f.Addr)
		if !f.Addr.IsUnspecified() {
			q.addr = f.Addr
		}
		return []query{q}
	}
	q4, q6 := q, q
	q4.family, q6.family = unix.AF_INET, unix.AF_INET6
	return []query{q4, q6}
}

// largeTable is the number of entries from which on dumps are not filtered: a filtered one
// would hold a CPU up for more than 25 ms (see the package's documentation).
const largeTable = 1 << 16

// smallTable is the number of entries up to which one more dump costs more than to look through them all:
// each dump walks the kernel's hash table, which is as large as the memory, however few entries there are.
const smallTable = 2000

// unfiltered says whether one dump without a filter is better than so many filtered ones.
func unfiltered(dumps int, entries uint32) bool {
	return entries >= largeTable || dumps > 1 && int(entries) <= smallTable*(dumps-1)
}

// plan returns the dumps that see all flows that may be stale: of a large table one unfiltered dump.
// A dump walks the whole table in the kernel, filtered or not: from some number of frontends on,
// one dump for all of them costs less. For TCP that is from two on, as unanswered
// connections are few.
func plan(targets []Target, large bool) []query {
	type group struct {
		family uint8
		proto  rules.Protocol
	}
	groups := map[group][]query{}
	var order []group
	for _, t := range targets {
		if !slices.Contains(rules.AllProtocols[:], t.Protocol) {
			continue
		}
		for _, q := range queries(t.Frontend) {
			q.unanswered = q.proto == rules.TCP
			g := group{q.family, q.proto}
			if groups[g] == nil {
				order = append(order, g)
			}
			groups[g] = append(groups[g], q)
		}
	}
	if large && len(order) > 0 {
		return []query{{}}
	}
	var out []query
	for _, g := range order {
		limit := maxFilteredDumps
		if g.proto == rules.TCP {
			limit = 1
		}
		if len(groups[g]) > limit {
			out = append(out, query{family: g.family, proto: g.proto, unanswered: g.proto == rules.TCP})
			continue
		}
		out = append(out, groups[g]...)
	}
	return out
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// String returns the query for messages, as "udp 10.96.0.10 port 53".
func (q query) String() string {
	s := "all protocols"
	if q.proto != 0 {
		s = q.proto.String()
	}
	if q.addr.IsValid() {
		s += " " + q.addr.String()
	}
	if q.port != 0 {
		s += fmt.Sprintf(" port %d", q.port)
	}
	return s
}
