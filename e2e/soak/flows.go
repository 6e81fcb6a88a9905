// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// mostFlows is how many are told of at most.
const mostFlows = 8

// flows returns the node's conntrack entries of a way that were not answered, or go on, in lines: they tell where a
// connection went that failed.
func (s *site) flows(w way) string {
	family := netlink.InetFamily(unix.AF_INET)
	if w.family == netns.IPv6 {
		family = unix.AF_INET6
	}
	var list []*netlink.ConntrackFlow
	err := s.Node.Do(func() (err error) {
		list, err = netlink.ConntrackTableList(netlink.ConntrackTable, family)
		return err
	})
	if err != nil {
		return fmt.Sprintf("; its conntrack entries cannot be read: %v", err)
	}
	var out []string
	to := net.IP(w.to.Addr().AsSlice())
	for _, f := range list {
		if f.Forward.Protocol == uint8(w.protocol) && f.Forward.DstIP.Equal(to) && f.Forward.DstPort == w.to.Port() && len(out) < mostFlows {
			out = append(out, "\n    "+f.String())
		}
	}
	return "; conntrack entries:" + strings.Join(out, "")
}
