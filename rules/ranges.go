// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
)

// ranges returns the elements of a set of ranges for the prefixes of a family:
// sorted, without overlaps, and with neighbours made one.
func ranges(f Family, prefixes []netip.Prefix) []Element {
	list := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		if FamilyOf(p.Addr()) == f {
			list = append(list, p.Masked())
		}
	}
	// The larger one of two that begin alike comes first.
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []Element
	for _, p := range list {
		first, last := p.Addr(), lastOf(p)
		if n := len(out); n > 0 {
			end := out[n-1].To.Addr()
			if last.Compare(end) <= 0 {
				continue
			}
			if end.Next() == first {
				out[n-1].To = netip.AddrPortFrom(last, 0)
				continue
			}
		}
		out = append(out, Element{addrKey(first), Value{To: netip.AddrPortFrom(last, 0)}})
	}
	return out
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
