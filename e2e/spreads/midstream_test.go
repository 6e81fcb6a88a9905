// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

// TestMidStream: a TCP flow that comes to another node in its midst is translated to the endpoint that it had at the first one, if the
// node's connection tracking takes it for a new one; else it is not translated.
func TestMidStream(t *testing.T) {
	sp, list := servicePort("web", rules.Maglev, rules.TCP, rules.IPv4), endpoints(rules.IPv4, slices.Repeat([]uint32{1}, 20)...)
	one := newNode(t, "one")
	one.update(sp, list)
	var sources []netip.AddrPort
	for i := range 50 {
		sources = append(sources, flow(rules.IPv4, i))
	}
	first := one.connect(&sp, sources)
	for _, loose := range []string{"1", "0"} {
		two := newNode(t, "two")
		two.must(two.ns.SetSysctl("netfilter/nf_conntrack_tcp_loose", loose))
		two.update(sp, list)
		var table *conntrack.Conn
		two.must(two.ns.Do(func() (err error) {
			if table, err = conntrack.Open(); err != nil {
				return err
			}
			for _, from := range sources {
				if err := acknowledge(from, netip.AddrPortFrom(sp.ClusterIP, sp.Port)); err != nil {
					return err
				}
			}
			return nil
		}))
		found, err := table.List(t.Context(), rules.Frontend{Addr: sp.ClusterIP, Protocol: rules.TCP, Port: sp.Port})
		two.must(err)
		_ = table.Close()
		at := map[netip.AddrPort]netip.AddrPort{}
		for _, f := range found {
			at[f.Orig.Src] = f.Reply.Src
		}
		for i, from := range sources {
			want := first[i]
			if loose == "0" {
				want = netip.AddrPort{}
			}
			if at[from] != want {
				t.Errorf("tcp_loose %s: the flow from %s goes to %s, want %s", loose, from, at[from], want)
			}
		}
	}
}

// acknowledge sends a TCP segment from the midst of a connection.
func acknowledge(from, to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	packet := make([]byte, 40)
	packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(packet[2:], 40)
	copy(packet[12:], from.Addr().AsSlice())
	copy(packet[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(packet[20:], from.Port())
	binary.BigEndian.PutUint16(packet[22:], to.Port())
	binary.BigEndian.PutUint32(packet[24:], 1000)
	binary.BigEndian.PutUint32(packet[28:], 2000)
	packet[32], packet[33] = 5<<4, 0x10 // ACK
	binary.BigEndian.PutUint16(packet[34:], 1000)
	return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
}
