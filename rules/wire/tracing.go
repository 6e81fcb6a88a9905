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
	ToPort   uint16       // the destination's; without Protocol, that of any
	Protocol rules.Protocol
}

// TraceEvent is what a rule, or the end of a chain, did with a packet.
type TraceEvent struct {
	ID      uint32 // of the packet, for a while
	Table   string
	Chain   string
	Dropped bool // by a rule
	// Src, Dst and Protocol are the packet's, if the event has them: the first of each hook does.
	Src, Dst netip.AddrPort
	Protocol rules.Protocol
}
