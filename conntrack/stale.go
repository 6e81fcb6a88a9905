// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// StatusSeenReply is set in the status of a flow that was answered (IPS_SEEN_REPLY).
const StatusSeenReply uint32 = 1 << 1

// StatusDestinationNAT is set where NAT translated the destination (IPS_DST_NAT). IPVS translates without it.
const StatusDestinationNAT uint32 = 1 << 5

// Target is a frontend and where its flows may go. IPv4 addresses are not in their IPv6-mapped
// form, here and everywhere in this package.
type Target struct {
	// Frontend stands for any local address of a family if its address is the unspecified one, as a
	// NodePort's is, and for any local address of both if it has none.
	rules.Frontend
	// Endpoints are all endpoints that serve the frontend now.
	Endpoints []netip.AddrPort
	// Unready are its other endpoints: they are there, but do not serve. Only answered SCTP
	// associations stay with them.
	Unready []netip.AddrPort
	// Local are the addresses that a frontend without an address of its own stands
	// for, sorted. If there are none, and nothing of what follows, its flows are all that were
	// dialled at its port and sent on to another address; these may include flows to another
	// service's address with the same port.
	Local []netip.Addr
	// Left are addresses, sorted, for which such a frontend stood once: flows that were dialled there and
	// sent on have no endpoint any more.
	Left []netip.Addr
	// LinkLocal says that such a frontend also stands for link-local addresses, none of which
	// Local lists: its flows are those that were sent on.
	LinkLocal bool
}

// Deleted is how many flows were deleted, by the family that they were dialled in.
type Deleted struct {
	V4, V6 int
	// Busy is the CPU time that this took, the kernel's included: less than what passed where others use the CPU, too.
	Busy time.Duration
}

// Tuple is one direction of a flow.
type Tuple struct{ Src, Dst netip.AddrPort }

// Flow is the part of a conntrack entry that the decision and the deletion need.
type Flow struct {
	Protocol rules.Protocol
	Status   uint32 // IPS_*
	ID       uint32 // the kernel's, as CTA_ID has it; 0 is none
	State    uint8  // the protocol's state of the connection; 0: it has none
	// Orig is what the client sent, Reply what answers look like on arrival.
	Orig, Reply Tuple
	// Bytes is how many the flow had in both directions; 0: the kernel does not count them (sysctl
	// net.netfilter.nf_conntrack_acct).
	Bytes uint64
	// Zones tell flows apart whose tuples are the same.
	Zones Zones
}

// Zones are the conntrack zones in which the two directions of a flow are looked up. 0 is the
// default one. They differ where a rule sets the zone of one direction only.
type Zones struct{ Orig, Reply uint16 }

// String returns zones as " in zone 5", and as nothing where they are the default one.
func (z Zones) String() string {
	switch {
	case z == Zones{}:
		return ""
	case z.Orig == z.Reply:
		return fmt.Sprintf(" in zone %d", z.Orig)
	}
	return fmt.Sprintf(" in zones %d and %d", z.Orig, z.Reply)
}

// String returns the flow as "udp 10.1.0.1:999 -> 10.96.0.10:53 (answered by 10.244.1.5:53)".
func (f Flow) String() string {
	return fmt.Sprintf("%s %s -> %s (answered by %s)%s", f.Protocol, f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Zones)
}

// forwarded says whether the flow's destination was translated.
func (f Flow) forwarded() bool { return f.Reply.Src != f.Orig.Dst }

// Unanswered says whether the flow's destination was translated and nothing has come back.
func (f Flow) Unanswered() bool { return f.forwarded() && f.Status&StatusSeenReply == 0 }

// left says whether a flow to an address for which the frontend stood once is stale. Answered
// associations and connections end by themselves.
func (b *backends) left(f Flow) bool {
	answered := f.Status&StatusSeenReply != 0
	return f.forwarded() && (f.Protocol == rules.UDP || !answered) && contains(b.Left, f.Orig.Dst.Addr())
}

// stale says whether a flow, known to be one to the frontend, goes to what is not, or no
// longer, an endpoint that serves it:
//   - UDP: the flow is answered by something else than such an endpoint. A flow that was
//     not translated is stale only if the frontend has endpoints (of the flow's
//     family): it began before there were any, and would never reach them.
//   - SCTP: the same, as long as there is no answer. Answered associations are as TCP's
//     connections: that an endpoint is not ready for new ones does not end them. Unlike TCP's they
//     do not outlive their endpoint: a peer that dials again does so from the same port, and would
//     meet the entry of the association that is dead.
//   - TCP: there is no answer, and the flow goes elsewhere than to such an endpoint, whether there
//     are any or not: the client sends its SYN again. Established connections end by themselves.
func (b *backends) stale(f Flow) bool {
	if b.has(f.Reply.Src) {
		return false
	}
	answered := f.Status&StatusSeenReply != 0
	switch {
	case f.Protocol == rules.UDP, f.Protocol == rules.SCTP && !answered:
		return f.forwarded() || b.hasFamily(f.Orig.Dst.Addr())
	case f.Protocol == rules.SCTP:
		return f.forwarded() && !slices.Contains(b.Unready, f.Reply.Src)
	case f.Protocol == rules.TCP:
		return !answered
	}
	return false
}
