// SPDX-License-Identifier: Apache-2.0

//go:build linux

package check

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// look returns what the kernel has of links and routes.
func look() (l links, err error) {
	list, err := whole(netlink.LinkList)
	if err != nil {
		return l, fmt.Errorf("list links: %w", err)
	}
	names := map[int]string{} // of links that may lead to other machines
	for _, link := range list {
		a := link.Attrs()
		switch {
		case a.RawFlags&unix.IFF_UP == 0 || a.RawFlags&unix.IFF_LOOPBACK != 0:
		case link.Type() == "bridge":
			l.bridges = append(l.bridges, a.Name)
		default:
			names[a.Index] = a.Name
		}
	}
	for f, family := range [...]int{rules.IPv4: unix.AF_INET, rules.IPv6: unix.AF_INET6} {
		routes, err := whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return l, fmt.Errorf("list routes (%s): %w", rules.Family(f), err)
		}
		for _, r := range routes {
			ones := 0
			if r.Dst != nil {
				ones, _ = r.Dst.Mask.Size()
			}
			l.defaultRoute[f] = l.defaultRoute[f] || ones == 0 && (r.Type == unix.RTN_UNICAST || r.Type == unix.RTN_LOCAL)
		}
		addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
		if err != nil {
			return l, fmt.Errorf("list addresses (%s): %w", rules.Family(f), err)
		}
		for _, a := range addrs {
			l.addressed[f] = l.addressed[f] || a.IP.IsGlobalUnicast()
			ones, bits := a.Mask.Size()
			if name := names[a.LinkIndex]; name != "" && f == int(rules.IPv4) && ones < bits && !slices.Contains(l.outside, name) {
				l.outside = append(l.outside, name)
			}
		}
	}
	return l, nil
}

// whole makes a listing again that changes have interrupted.
func whole[T any](list func() ([]T, error)) (out []T, err error) {
	for range 10 {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, err
}
