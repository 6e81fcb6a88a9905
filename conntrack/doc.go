// SPDX-License-Identifier: Apache-2.0

// Package conntrack deletes connection tracking entries that keep sending packets
// of existing flows to endpoints that are gone. The kernel consults NAT rules only
// for the first packet of a flow: a client that goes on sending UDP from one port
// never meets rules that changed later, however long its endpoint has been gone. Nor
// does one that sends its SYN or INIT again.
//
// There are two layers. What becomes of a flow (stale.go, index.go) is decided by pure
// functions of values: Target says where the flows to a frontend may go. Conn lists and
// deletes entries over ctnetlink, on a socket that stays in the network namespace in which
// it was opened. Conn.Clean does both. A flow is deleted by its whole tuple, its zones
// included, and by its ID, so that one that came after it stays.
//
// Others of its functions count and watch: CountOpen and EachOpen the open connections of backends, WatchNew flows as they come,
// DeleteUnanswered frees flows that a backend did not answer, Usage says how full the table is, and Settings are its sysctls.
//
// The kernel filters dumps (CTA_FILTER, Linux 5.8). What it sends is always checked
// again, because its filter is coarser than asked for:
//   - IPv6 addresses are compared the wrong way round (seen on Linux 6.18: the
//     entries with *other* addresses match), so only protocol and port are sent;
//   - ports of SCTP are not compared;
//   - kernels before 5.8 ignore the filter, those before 5.15 the status.
//
// The price: the kernel walks its whole table in one go, with softirqs of that CPU
// held off, until it has filled a datagram. With 245,000 entries, few of which match,
// that is some 100 ms. So a large table is dumped without a filter: that takes 570 ms
// there, in pieces of 0.3 ms between which the CPU does other things. So is a small one
// where several dumps would be needed, each of which walks as many hash buckets, 12 ms for
// 262,144 of them. Callers do well to gather targets and clean seldom.
//
// A table of few entries is read as text, for which the kernel takes no locks (listing.go, Linux 6.15).
//
// Where the kernel says that a dump was interrupted (NLM_F_DUMP_INTR), as it may have missed
// entries, it is made again.
//
// `strace -e trace=sendto,recvfrom` shows the messages, `conntrack -L` the entries.
package conntrack
