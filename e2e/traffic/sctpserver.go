// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
)

// serveSCTP answers INIT chunks to some ports of one address until the socket is
// closed. The kernel hands a raw socket that is bound to an address only packets
// to it, and does not answer 'protocol unreachable' itself while there is one.
func (s *Server) serveSCTP(conn *net.IPConn, at netip.Addr, ports map[uint16]bool) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFromIP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error for an earlier answer
		}
		p, err := parseSCTP(buf[:n])
		if !ports[p.destination] {
			continue // perhaps another server's
		}
		here := netip.AddrPortFrom(at, p.destination)
		if err != nil || p.chunk != chunkInit || p.tag != 0 {
			s.noteBad(fmt.Errorf("packet to %s %s: %w", SCTP, here, orUnexpected(err)))
			continue
		}
		addr, _ := netip.AddrFromSlice(from.IP)
		peer := netip.AddrPortFrom(addr.Unmap(), p.source)
		s.note(Endpoint{SCTP, here}, peer)
		_, _ = conn.WriteToIP(initAck(p, here, peer), from) // the client notices
	}
}

func orUnexpected(err error) error {
	if err == nil {
		err = errors.New("not an INIT chunk with verification tag 0")
	}
	return err
}

// initAck answers an INIT, with the answer in the state cookie.
func initAck(init sctpPacket, here, peer netip.AddrPort) []byte {
	return sctpPacket{
		source:      init.destination,
		destination: init.source,
		tag:         init.initiateTag,
		chunk:       chunkInitAck,
		initiateTag: rand.Uint32N(1<<32-1) + 1,
		cookie:      []byte(here.String() + " " + peer.String()),
	}.marshal()
}
