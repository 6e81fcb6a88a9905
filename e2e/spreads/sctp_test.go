// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

// associate sends the first packet of an SCTP association from each of the sources, and returns where connection tracking says that they
// went: that takes no SCTP in the kernel, and nobody who answers.
func (n *node) associate(to netip.AddrPort, sources []netip.AddrPort) []netip.AddrPort {
	n.t.Helper()
	var table *conntrack.Conn
	n.must(n.ns.Do(func() (err error) {
		if table, err = conntrack.Open(); err != nil {
			return err
		}
		for _, from := range sources {
			if err := sendInit(from, to); err != nil {
				return err
			}
		}
		return nil
	}))
	defer table.Close()
	found, err := table.List(n.t.Context(), rules.Frontend{Addr: to.Addr(), Protocol: rules.SCTP, Port: to.Port()})
	n.must(err)
	at := map[netip.AddrPort]netip.AddrPort{}
	for _, f := range found {
		at[f.Orig.Src] = f.Reply.Src
	}
	out := make([]netip.AddrPort, len(sources))
	for i, from := range sources {
		out[i] = at[from]
	}
	return out
}

// sendInit sends an INIT chunk (RFC 9260, section 3.3.2).
func sendInit(from, to netip.AddrPort) error {
	family, source, dest := unix.AF_INET, netip.AddrPortFrom(from.Addr(), 0), netip.AddrPortFrom(to.Addr(), 0)
	if from.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = unix.Bind(fd, sockaddr(source)); err != nil {
		return err
	}
	packet := make([]byte, 32)
	binary.BigEndian.PutUint16(packet, from.Port())
	binary.BigEndian.PutUint16(packet[2:], to.Port())
	packet[12], packet[15] = 1, 20                 // INIT, and its length
	binary.BigEndian.PutUint32(packet[16:], 1)     // initiate tag
	binary.BigEndian.PutUint32(packet[20:], 1<<16) // window
	binary.BigEndian.PutUint32(packet[24:], 10<<16|10)
	binary.LittleEndian.PutUint32(packet[8:], crc32.Checksum(packet, crc32.MakeTable(crc32.Castagnoli)))
	return unix.Sendto(fd, packet, 0, sockaddr(dest))
}
