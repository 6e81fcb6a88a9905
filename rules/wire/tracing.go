// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"net/netip"

	"github.com/nftproxy/nftproxy/rules"
)

// TraceFilter chooses what is traced: new connections that are all of this. Zero values
// choose everything.
type TraceFilter struct {
	From, To netip.Prefix // of the source and the destination
	FromPort uint16       // the source's; without Protocol, that of any
	ToPort   uint16       // the destination's; without Protocol, that of any
	Protocol rules.Protocol
}

// TraceEvent is what a rule, or the end of a chain, did with a packet.
type TraceEvent struct {
	ID     uint32 // of the packet, for a while
	Family string // the table's: ip, ip6, inet, bridge or another; empty: not known
	Table  string
	Chain  string
	Rule   uint64 // the handle of the rule; 0: the event is not a rule's
	Policy bool   // it is the end of a base chain
	// Dropped says that the packet ended here: by a rule, which may have refused it, or by the policy.
	Dropped bool
	// Connection is the kernel's number of the connection; 0: not known, as before Linux 6.17.
	Connection uint32
	// PacketHeader is the packet's, if the event has it: the first of each base chain does.
	PacketHeader
}

// PacketHeader is what a trace tells of a packet.
type PacketHeader struct {
	Src, Dst netip.AddrPort // not valid: the event has no headers
	Protocol rules.Protocol
	Length   uint16 // in bytes; 0: not known
	TCP      TCPHeader
	ICMP     ICMPHeader
}

// TCPHeader is what a trace tells of a TCP segment.
type TCPHeader struct {
	Seq   uint32
	Flags uint8 // as in the header: FIN is 1, SYN 2, RST 4, ACK 16
}

// Flags of TCP.
const (
	FlagSYN = 0x02
	FlagRST = 0x04
	FlagACK = 0x10
)

// ICMPHeader is what a trace tells of an ICMP or ICMPv6 message, and of the start of the packet that it is about.
type ICMPHeader struct {
	Valid      bool // the event is about an ICMP message; Src and Dst have no ports then
	Type, Code uint8
	Protocol   rules.Protocol // of the packet that it is about
	Length     uint16         // of that packet
}

// Chains of the trace's own table. An event of them says where a packet has come; each is named by where it is.
const (
	TraceFirst       = "first-"     // the first of a hook: new TCP connections are chosen here, and answers to any
	TraceNew         = "new-"       // after connection tracking: other new connections are chosen here
	TraceAnswers     = "answers-"   // answers to what was chosen
	TraceLast        = "last-"      // the last of a hook: the packet goes on
	TracePrerouting  = "prerouting" // the hooks
	TraceInput       = "input"
	TraceForward     = "forward"
	TraceOutput      = "output"
	TracePostrouting = "postrouting"
)
