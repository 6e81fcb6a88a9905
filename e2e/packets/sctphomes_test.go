// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// secondHome gives a host more addresses on a link.
func secondHome(t *testing.T, h netns.Host, link string, addrs ...netip.Addr) {
	t.Helper()
	handle, err := h.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	l, err := handle.LinkByName(link)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(netip.PrefixFrom(a, a.BitLen()).String())
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := handle.AddrAdd(l, addr); err != nil {
			t.Fatal(err)
		}
	}
}

// exploratory
func TestSCTPMultihoming(t *testing.T) {
	t.Parallel()
	needSCTP(t)
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	v4, v6 := netip.MustParseAddr("172.18.0.9"), netip.MustParseAddr("fd00:172:18::9")
	secondHome(t, w.Outside, "br0", v4, v6)
	for _, n := range []int{1, 3} {
		hosts := []netns.Host{w.Local[0], w.RemotePods[0], w.RemotePods[1]}[:n]
		s := w.applied(t, w.full("web-"+string(rune('0'+n))).to(ready(hosts...)))
		for _, fe := range []frontend{clusterIP, nodePort} {
			for _, f := range netns.Families() {
				to := w.address(s, fe, traffic.SCTP, f)
				more := v4
				if f == netns.IPv6 {
					more = v6
				}
				t.Run(to.String(), func(t *testing.T) {
					client := traffic.Client{NS: w.Outside.NS, Source: netip.AddrPortFrom(w.Outside.Addr(f), 0), Homes: []netip.Addr{more}}
					conn, err := client.Open(t.Context(), traffic.SCTP, to)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					for i := range 60 {
						r := conn.Ask(t.Context())
						if i%10 == 0 || r.Outcome != traffic.Answered {
							t.Logf("%d: %s", i, r)
						}
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
		}
	}
	// a server of two homes
	{
		f := netns.IPv6
		h := w.Local[1]
		server, err := traffic.ServeSCTP(h.NS, netip.AddrPortFrom(h.V6, 9191), h.V4)
		if err != nil {
			t.Fatal(err)
		}
		s := w.full("homes")
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].TargetPort.IntVal = 9191
		}
		w.apply(t, s.to(ready(h)))
		for _, from := range w.clients() {
			for _, fe := range []frontend{clusterIP, nodePort} {
				to := w.address(s, fe, traffic.SCTP, f)
				client := traffic.Client{NS: from.NS}
				conn, err := client.Open(t.Context(), traffic.SCTP, to)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 30 {
					r := conn.Ask(t.Context())
					if i%10 == 0 || r.Outcome != traffic.Answered {
						t.Logf("%s %s %d: %s", from.Name(), to, i, r)
					}
					time.Sleep(100 * time.Millisecond)
				}
				conn.Close()
			}
		}
		_ = server.Close()
	}
}
