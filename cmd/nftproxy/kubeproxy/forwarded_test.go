// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kubeproxy

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ipvs"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// TestForwarded: connections through kube-proxy's virtual servers, which IPVS translates without NAT's mark, are counted, and end; others stay.
func TestForwarded(t *testing.T) {
	ns, err := netns.New("node")
	must(t, err)
	defer func() { must(t, ns.Close()) }()
	must(t, ns.Do(func() error {
		at := netip.MustParseAddrPort
		for i, f := range []struct{ to, endpoint string }{
			{"10.96.0.1:80", "10.244.1.2:8080"}, {"10.96.0.1:80", "10.244.1.3:8080"}, {"[fd00::1]:80", "[fd00:10:244:1::2]:8080"},
			{"10.96.0.9:80", "10.244.1.2:8080"}, // another program's
			{"10.96.0.1:80", "10.96.0.1:80"},    // to the address itself
		} {
			forge(t, uint16(1000+i), at(f.to), at(f.endpoint))
		}
		left := ipvs.Left{Servers: []ipvs.Server{{At: at("10.96.0.1:80"), Protocol: unix.IPPROTO_TCP}, {At: at("[fd00::1]:80"), Protocol: unix.IPPROTO_TCP, IPv6: true}}}
		if n := countForwarded(left); n != 3 {
			t.Errorf("%d connections go through IPVS, want 3", n)
		}
		lines, err := endForwarded(left)
		if want := []string{"ended 3 open connections that IPVS forwarded: their clients connect again"}; err != nil || !slices.Equal(lines, want) {
			t.Errorf("%q, %v, want %q", lines, err, want)
		}
		var stay []uint16
		for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			list, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			must(t, err)
			for _, f := range list {
				stay = append(stay, f.Forward.SrcPort)
			}
		}
		if slices.Sort(stay); !slices.Equal(stay, []uint16{1003, 1004}) {
			t.Errorf("the connections from %v stay, want those from 1003 and 1004", stay)
		}
		if lines, err := endForwarded(left); lines != nil || err != nil {
			t.Errorf("once more: %q, %v", lines, err)
		}
		if lines, err := endForwarded(ipvs.Left{}); lines != nil || err != nil || countForwarded(ipvs.Left{}) != 0 {
			t.Errorf("without virtual servers: %q, %v", lines, err)
		}
		return nil
	}))
}

// forge puts an established connection into connection tracking as IPVS does: answers come from somewhere else, and no NAT is noted.
func forge(t *testing.T, port uint16, to, endpoint netip.AddrPort) {
	t.Helper()
	family, client := unix.AF_INET, netip.MustParseAddr("10.244.1.10")
	if to.Addr().Is6() {
		family, client = unix.AF_INET6, netip.MustParseAddr("fd00:10:244:1::10")
	}
	must(t, netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(family), &netlink.ConntrackFlow{
		FamilyType: uint8(family), TimeOut: 1000, ProtoInfo: &netlink.ProtoInfoTCP{State: 3},
		Forward: netlink.IPTuple{Protocol: unix.IPPROTO_TCP, SrcIP: client.AsSlice(), SrcPort: port, DstIP: to.Addr().AsSlice(), DstPort: to.Port()},
		Reverse: netlink.IPTuple{Protocol: unix.IPPROTO_TCP, SrcIP: endpoint.Addr().AsSlice(), SrcPort: endpoint.Port(), DstIP: client.AsSlice(), DstPort: port},
	}))
}
