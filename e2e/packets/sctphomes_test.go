// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// moveIn gives a host more addresses on a link.
func moveIn(t *testing.T, h netns.Host, link string, addrs ...netip.Addr) {
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

// routeTo gives the node a way to more addresses of a pod.
func (w *world) routeTo(t *testing.T, pod netns.Host, addrs ...netip.Addr) {
	t.Helper()
	handle, err := w.Node.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	l, err := handle.LinkByName("pod-" + pod.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		to, err := netlink.ParseIPNet(netip.PrefixFrom(a, a.BitLen()).String())
		if err == nil {
			err = handle.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestSCTPMultihoming: what becomes of associations whose ends name several of their addresses. Address translation leaves the
// addresses in SCTP's own header alone, so that only the path works on which the association began.
//
// An endpoint tries its client's other addresses, from its own. A client that is masqueraded has none there: its association
// stays. Another client does not know the endpoint's address; it ends the association, and opens a new one. The documents say
// so, and what to do: such a client is to bind its socket to one address.
func TestSCTPMultihoming(t *testing.T) {
	t.Parallel()
	needSCTP(t)
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	for _, ns := range w.Namespaces() {
		if err := ns.SetSysctl("sctp/hb_interval", "500"); err != nil { // milliseconds between tries of a path
			t.Fatal(err)
		}
	}
	second := map[string]map[netns.Family]netip.Addr{
		w.Outside.Name(): {netns.IPv4: netip.MustParseAddr("172.18.0.9"), netns.IPv6: netip.MustParseAddr("fd00:172:18::9")},
		w.Client.Name():  {netns.IPv4: netip.MustParseAddr("10.244.1.99"), netns.IPv6: netip.MustParseAddr("fd00:10:244:1::99")},
	}
	outside, pod := second[w.Outside.Name()], second[w.Client.Name()]
	moveIn(t, w.Outside, "br0", outside[netns.IPv4], outside[netns.IPv6])
	moveIn(t, w.Client, "eth0", pod[netns.IPv4], pod[netns.IPv6])
	w.routeTo(t, w.Client, pod[netns.IPv4], pod[netns.IPv6])
	const own = 9090
	home := w.Local[1]
	server, err := traffic.ServeSCTP(home.NS, netip.AddrPortFrom(home.V6, own), home.V4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	three, homes := w.full("three").to(ready(w.Local[0], w.RemotePods[0], w.RemotePods[1])), w.full("homes", only(netns.IPv6))
	for i := range homes.Spec.Ports {
		homes.Spec.Ports[i].TargetPort.IntVal = own
	}
	w.apply(t, three, homes.to(ready(home)))

	open := func(from netns.Host, s *svc, fe frontend, f netns.Family, c traffic.Client) *established {
		t.Helper()
		to := w.address(s, fe, traffic.SCTP, f)
		c.NS = from.NS
		conn, err := c.Open(t.Context(), traffic.SCTP, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return &established{Conn: conn, name: fmt.Sprintf("from %s to %s of %s", from.Name(), to, s.Name)}
	}
	var stay, end []*established
	for _, fe := range []frontend{clusterIP, nodePort} {
		for _, f := range netns.Families() {
			of := func(h netns.Host) traffic.Client {
				return traffic.Client{Source: netip.AddrPortFrom(h.Addr(f), 0), Homes: []netip.Addr{second[h.Name()][f]}}
			}
			stay = append(stay, open(w.Outside, three, fe, f, of(w.Outside)))
			end = append(end, open(w.Client, three, fe, f, of(w.Client)))
		}
		for _, from := range w.clients() {
			stay = append(stay, open(from, homes, fe, netns.IPv6, traffic.Client{}))
		}
	}
	ended := map[*established]bool{}
	eventually(t, "the end of the associations of clients that are not masqueraded", func() error {
		for _, e := range stay {
			if e.ask(t); e.err != nil {
				t.Fatalf("%s: %v, want it to stay", e.name, e.err)
			}
		}
		for _, e := range end {
			switch r := e.Ask(t.Context()); {
			case r.Outcome == traffic.Answered:
			case r.Outcome == traffic.Failed:
				ended[e] = true // the next question opens another
			default:
				t.Fatalf("%s: %s", e.name, r)
			}
		}
		if len(ended) < len(end) {
			return fmt.Errorf("%d of %d have ended", len(ended), len(end))
		}
		return nil
	})
}
