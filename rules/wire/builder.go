// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// builder writes messages of nf_tables. Packet marks and numgen values are in the machine's own order.
type builder struct{ nfnetlink.Builder }

// message begins a message of nf_tables.
func (b *builder) message(typ, flags uint16, family uint8) {
	b.Message(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, family, 0)
}

// NFProto is the kernel's number of a family.
func NFProto(f rules.Family) uint8 {
	if f == rules.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}
