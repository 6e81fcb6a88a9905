// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"net/netip"

	"github.com/nftproxy/nftproxy/rules"
)

// Packet is the first packet of a connection.
type Packet struct {
	Protocol rules.Protocol
	Src, Dst netip.AddrPort
	// Interface is where it comes in; empty for one from the node itself.
	Interface string
	// Local says which addresses are the node's own.
	Local func(netip.Addr) bool
}

// Way is what may become of a packet.
type Way struct {
	// To is where it goes: its destination, unless it was translated.
	To netip.AddrPort
	// Translated says that it was.
	Translated bool
	// Rejected says that the sender is told at once, Dropped that it hears nothing.
	Rejected, Dropped bool
	// Masqueraded says that it goes out with the node's address.
	Masqueraded bool
	// Affinity is for how many seconds the client stays with its endpoint; 0: it does not.
	Affinity uint32
}

// Frontend is a frontend that rules are about, and the Service that they name, as namespace/name or namespace/name:port; "" if they name
// none.
type Frontend struct {
	rules.Frontend
	Service string
}
