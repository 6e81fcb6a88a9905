// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/nfnetlink/nfnetlinktest"
	"github.com/nftproxy/nftproxy/rules"
)

// TestDeleteGone: the kernel deletes the flows from a frontend to an endpoint that has gone, in all zones, of TCP those without an answer,
// and no others.
func TestDeleteGone(t *testing.T) {
	c := open(t)
	dead, good := zoned()
	all := slices.Concat(table(), dead, good)
	inject(t, c, 0, all...)
	targets := []Target{
		{Frontend: front(rules.UDP, "10.96.0.10:53"), Gone: aps("10.2.0.9:5353", "10.2.0.7:5353")},
		{Frontend: front(rules.TCP, "10.96.0.10:53"), Gone: aps("10.2.0.1:5353")},
		{Frontend: rules.NodePort(rules.IPv4, rules.UDP, 54), Gone: aps("10.2.0.1:5353"), Local: []netip.Addr{netip.MustParseAddr("10.96.0.10")}},
	}
	n, err := c.clean(t.Context(), targets, nil, lookGone)
	if err != nil {
		t.Fatal(err)
	}
	wholly := c.deletesOne.Load()
	if wholly != olderThan(t, 6, 11) {
		t.Errorf("the kernel deletes by whole tuples only: %t", wholly)
	}
	if wholly {
		if n.V4 == 0 {
			t.Error("the table is not dumped instead")
		}
		t.Skip("needs Linux 6.11")
	}
	if n != (Deleted{}) { // the kernel does not say
		t.Errorf("deleted %+v", n)
	}
	wantFlows(t, "left", everything(t, c), selected(all, func(f Flow) bool {
		switch {
		case f.Protocol == rules.UDP && f.Orig.Dst == ap("10.96.0.10:53"):
			return f.Reply.Src != ap("10.2.0.9:5353")
		case f.Protocol == rules.TCP && f.Orig.Dst == ap("10.96.0.10:53"):
			return f.Reply.Src != ap("10.2.0.1:5353") || f.Status&StatusSeenReply != 0
		}
		return f.Protocol != rules.UDP || f.Orig.Dst != ap("10.96.0.10:54")
	}))
}

// TestAllGone: the kernel's filter is for IPv4, TCP and UDP, and endpoints that are known to have gone.
func TestAllGone(t *testing.T) {
	node := []netip.Addr{netip.MustParseAddr("172.18.0.2")}
	nodePort := Target{Frontend: rules.NodePort(rules.IPv4, rules.UDP, 30000), Gone: aps("10.2.0.1:53"), Local: node}
	linkLocal, left, nowhere, both := nodePort, nodePort, nodePort, nodePort
	linkLocal.LinkLocal, left.Left, nowhere.Local = true, node, nil
	both.Local = append(slices.Clone(node), netip.MustParseAddr("fd00:172:18::2"))
	for name, row := range map[string]struct {
		targets []Target
		want    int // 0: it is for a dump
	}{
		"none":           {nil, 0},
		"udp":            {[]Target{{Frontend: front(rules.UDP, "10.96.0.1:53"), Gone: aps("10.2.0.1:53")}}, 1},
		"tcp, two":       {[]Target{{Frontend: front(rules.TCP, "10.96.0.1:53"), Gone: aps("10.2.0.1:53", "10.2.0.2:53")}}, 2},
		"sctp":           {[]Target{{Frontend: front(rules.SCTP, "10.96.0.1:53"), Gone: aps("10.2.0.1:53")}}, 0},
		"ipv6":           {[]Target{{Frontend: front(rules.UDP, "[fd00:96::1]:53"), Gone: aps("[fd00:2::1]:53")}}, 0},
		"not known":      {[]Target{{Frontend: front(rules.UDP, "10.96.0.1:53"), Gone: aps("10.2.0.1:53")}, {Frontend: front(rules.UDP, "10.96.0.2:53")}}, 0},
		"too many":       {[]Target{{Frontend: front(rules.UDP, "10.96.0.1:53"), Gone: aps("10.2.0.1:1", "10.2.0.1:2", "10.2.0.1:3", "10.2.0.1:4", "10.2.0.1:5")}}, 0},
		"nodeport":       {[]Target{nodePort}, 1},
		"link-local":     {[]Target{linkLocal}, 0},
		"addresses left": {[]Target{left}, 0},
		"nowhere":        {[]Target{nowhere}, 0},
		"both families":  {[]Target{both}, 0},
	} {
		if got, ok := allGone(row.targets); ok != (row.want > 0) || ok && len(got) != row.want {
			t.Errorf("%s: %v, %t, want %d", name, got, ok, row.want)
		}
	}
}

// TestDeleteGoneRefused: where the kernel refuses, the table is dumped, and it is not asked again.
func TestDeleteGoneRefused(t *testing.T) {
	stale := table()[0]
	for _, errno := range []unix.Errno{unix.EINVAL, unix.EOPNOTSUPP, unix.EPERM} {
		asked, dumped := 0, 0
		_, socket := nfnetlinktest.New(func(m nfnetlink.Message) nfnetlinktest.Answer {
			switch {
			case m.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP:
				dumped++
				return nfnetlinktest.Answer{Entries: [][]byte{entry(0, stale)}}
			case dumped == 0:
				asked++
				return nfnetlinktest.Answer{Err: errno}
			}
			return nfnetlinktest.Answer{}
		})
		c := &Conn{socket: socket}
		target := Target{Frontend: rules.FrontendAt(stale.Orig.Dst, stale.Protocol), Gone: []netip.AddrPort{stale.Reply.Src}}
		n, err := c.clean(t.Context(), []Target{target}, nil, lookGone)
		want := 1
		if errno == unix.EPERM {
			want = 0
		}
		if (err != nil) != (want == 0) || asked != 1 || dumped != want || n.V4 != want || c.deletesOne.Load() != (want == 1) {
			t.Errorf("%v: deleted %+v after %d requests and %d dumps: %v", errno, n, asked, dumped, err)
		}
	}
}
