// SPDX-License-Identifier: Apache-2.0

//go:build linux

package foreign

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

func numgen(a attributes) op {
	register, mod, offset := a.register(unix.NFTA_NG_DREG), a.number(unix.NFTA_NG_MODULUS), a.number(unix.NFTA_NG_OFFSET)
	if mod == 0 {
		return unknown("numgen mod 0")
	}
	return load(register, func(w *walk) []byte {
		return native(offset + uint32(w.choices.next(int(mod)))) //nolint:gosec // it is below mod
	})
}

func fib(a attributes) op {
	const addrType, saddr, daddr = 3, 1, 2 // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR
	flags := a.number(unix.NFTA_FIB_FLAGS)
	if a.number(unix.NFTA_FIB_RESULT) != addrType || flags&(saddr|daddr) == 0 {
		return unknown("fib %d with flags %d", a.number(unix.NFTA_FIB_RESULT), flags)
	}
	return load(a.register(unix.NFTA_FIB_DREG), func(w *walk) []byte {
		at := w.way.To.Addr()
		if flags&saddr != 0 {
			at = w.packet.Src.Addr()
		}
		if w.packet.Local(at) {
			return native(unix.RTN_LOCAL)
		}
		return native(unix.RTN_UNICAST)
	})
}

func conntrack(a attributes) op {
	key, register := a.number(unix.NFTA_CT_KEY), a.register(unix.NFTA_CT_DREG)
	if a[unix.NFTA_CT_SREG] != nil {
		return unknown("ct %d that is written", key)
	}
	const (
		isNew, dnat                                 = 1 << 3, 1 << 5 // NF_CT_STATE_BIT(IP_CT_NEW), IPS_DST_NAT
		sourceIP, destIP, sourceIP6, destIP6, reply = 19, 20, 21, 22, 1
	)
	if a[unix.NFTA_CT_DIRECTION] != nil && a[unix.NFTA_CT_DIRECTION][0] == reply {
		return unknown("ct %d of replies", key)
	}
	switch key {
	case unix.NFT_CT_STATE:
		return load(register, func(*walk) []byte { return native(isNew) })
	case unix.NFT_CT_STATUS:
		return load(register, func(w *walk) []byte {
			if w.way.Translated {
				return native(dnat)
			}
			return native(0)
		})
	case unix.NFT_CT_DIRECTION:
		return load(register, func(*walk) []byte { return []byte{0, 0, 0, 0} })
	case unix.NFT_CT_SRC, sourceIP, sourceIP6:
		return load(register, func(w *walk) []byte { return w.packet.Src.Addr().AsSlice() })
	case unix.NFT_CT_DST, destIP, destIP6:
		return load(register, func(w *walk) []byte { return w.packet.Dst.Addr().AsSlice() })
	case unix.NFT_CT_PROTO_DST:
		return load(register, func(w *walk) []byte { return binary.BigEndian.AppendUint16(nil, w.packet.Dst.Port()) })
	case unix.NFT_CT_PROTO_SRC:
		return load(register, func(w *walk) []byte { return binary.BigEndian.AppendUint16(nil, w.packet.Src.Port()) })
	}
	return unknown("ct %d", key)
}

// dynset remembers the client for an affinity. A rule that takes one out of a set changes nothing for a client that is new.
func (c *compiler) dynset(a attributes) op {
	s := c.table.sets[a[unix.NFTA_DYNSET_SET_NAME].Text()]
	timeout := a[unix.NFTA_DYNSET_TIMEOUT].U64()
	if timeout == 0 && s != nil {
		timeout = s.timeout
	}
	const takesOut, second = 2, 1000
	if a.number(unix.NFTA_DYNSET_OP) == takesOut || timeout == 0 {
		return pass
	}
	return func(w *walk) (next, error) {
		w.way.Affinity = uint32(min(timeout/second, 1<<31))
		return goOn, nil
	}
}

func nat(a attributes) op {
	const destination = unix.NFT_NAT_DNAT
	if a.number(unix.NFTA_NAT_TYPE) != destination {
		return unknown("source NAT")
	}
	n := 4
	if a.number(unix.NFTA_NAT_FAMILY) == unix.NFPROTO_IPV6 {
		n = 16
	}
	address, port := -1, -1
	if a[unix.NFTA_NAT_REG_ADDR_MIN] != nil {
		address = a.register(unix.NFTA_NAT_REG_ADDR_MIN)
	}
	if a[unix.NFTA_NAT_REG_PROTO_MIN] != nil {
		port = a.register(unix.NFTA_NAT_REG_PROTO_MIN)
	}
	return func(w *walk) (next, error) {
		var to netip.Addr
		var toPort uint16
		if address >= 0 {
			to, _ = netip.AddrFromSlice(w.regs[address:min(address+n, len(w.regs))])
		}
		if port >= 0 {
			toPort = binary.BigEndian.Uint16(w.regs[port:])
		}
		return w.translate(to, toPort)
	}
}

func masquerade(w *walk) (next, error) {
	w.way.Masqueraded = true
	return decided, nil
}

func reject(w *walk) (next, error) {
	w.way.Rejected = true
	return ended, nil
}
