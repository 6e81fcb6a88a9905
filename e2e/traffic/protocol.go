// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Protocol is a transport protocol, by its number in the IP header.
type Protocol uint8

// The protocols of Services.
const (
	TCP  Protocol = unix.IPPROTO_TCP
	UDP  Protocol = unix.IPPROTO_UDP
	SCTP Protocol = unix.IPPROTO_SCTP
)

// Protocols returns all of them, to range over.
func Protocols() [3]Protocol { return [3]Protocol{TCP, UDP, SCTP} }

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// Endpoint is where a server answers.
type Endpoint struct {
	Protocol Protocol
	Address  netip.AddrPort
}

func (e Endpoint) String() string { return fmt.Sprintf("%s %s", e.Protocol, e.Address) }

// Endpoints returns every combination of addresses, ports and protocols.
func Endpoints(addrs []netip.Addr, ports []uint16, protocols ...Protocol) []Endpoint {
	var list []Endpoint
	for _, a := range addrs {
		for _, port := range ports {
			for _, p := range protocols {
				list = append(list, Endpoint{Protocol: p, Address: netip.AddrPortFrom(a, port)})
			}
		}
	}
	return list
}

// network returns the name by which package net knows a protocol over the
// address's family.
func network(p Protocol, a netip.Addr) string {
	family := "4"
	if a.Is6() {
		family = "6"
	}
	switch p {
	case TCP:
		return "tcp" + family
	case UDP:
		return "udp" + family
	}
	return fmt.Sprintf("ip%s:%d", family, uint8(p))
}
