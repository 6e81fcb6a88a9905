// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// Addresses that the node gets besides its own, by family.
var moreAddresses = map[netns.Family]netip.Addr{
	netns.IPv4: netip.MustParseAddr("172.18.0.77"),
	netns.IPv6: netip.MustParseAddr("fd00:172:18::77"),
}

// addAddresses gives the node more addresses, or takes them away.
func (w *world) addAddresses(t *testing.T, change func(*netlink.Handle, netlink.Link, *netlink.Addr) error) {
	t.Helper()
	handle, err := w.Node.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	link, err := handle.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range moreAddresses {
		addr, err := netlink.ParseAddr(netip.PrefixFrom(a, a.BitLen()).String())
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := change(handle, link, addr); err != nil {
			t.Fatal(err)
		}
	}
}

// NodePorts are served on the addresses that are asked for, and no others; those
// that come and go are followed.
func TestNodePortAddresses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name          string
		args          []string
		primary, more bool // served at the node's first addresses, at the others
		loopback      bool // and at 127.0.0.1 and ::1
	}{
		{"primary by default", nil, true, false, false},
		{"primary", []string{"--nodeport-addresses", "primary"}, true, false, false},
		{"all", []string{"--nodeport-addresses", "all"}, true, true, false},
		{"CIDRs of everything", []string{"--nodeport-addresses", "0.0.0.0/0,::/0"}, true, true, false},
		{"CIDRs", []string{"--nodeport-addresses", "172.18.0.64/26,fd00:172:18::40/122"}, false, true, false},
		{"primary and CIDRs", []string{"--nodeport-addresses", "primary,172.18.0.64/26,fd00:172:18::40/122"}, true, true, false},
		{"localhost only", []string{"--nodeport-addresses", "localhost"}, false, false, true},
		{"loopback CIDRs and primary", []string{"--nodeport-addresses", "127.0.0.0/8,::1/128,primary"}, true, false, true},
		{"localhost and a CIDR of one family", []string{"--nodeport-addresses", "localhost,10.99.0.0/16"}, false, false, true},
		{"primary and a CIDR of one family", []string{"--nodeport-addresses", "primary,10.99.0.0/16"}, true, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config{args: row.args})
			w.put(t, nodeObject(nil))
			a, b := w.Local[0], w.RemotePods[0]
			s := w.full("web").to(ready(a, b))
			w.apply(t, s)
			// IPv6's neighbour discovery that was under way from an address that came or went begins anew, a second later.
			// nftproxy itself listens on loopback addresses, from just after the kernel was programmed on.
			reached := func(t *testing.T, from netns.Host, p traffic.Protocol, to netip.AddrPort) {
				t.Helper()
				try := longer(t)
				eventually(t, "reaching both endpoints", func() error {
					for _, r := range connect(try(), traffic.Client{NS: from.NS}, p, to, 4) {
						if r.Outcome != traffic.Answered {
							return r.Err
						}
					}
					return nil
				})
			}
			check := func(t *testing.T, more bool) {
				t.Helper()
				first := w.address(s, nodePort, traffic.TCP, netns.IPv6)
				for _, from := range w.clients() {
					if row.primary {
						reached(t, from, traffic.TCP, first)
					}
					if row.more && more {
						reached(t, from, traffic.TCP, netip.AddrPortFrom(moreAddresses[netns.IPv6], first.Port()))
					}
				}
				for _, p := range traffic.Protocols() {
					for _, f := range netns.Families() {
						first := w.address(s, nodePort, p, f)
						second := netip.AddrPortFrom(moreAddresses[f], first.Port())
						for _, from := range w.clients() {
							w.wantServedAt(t, from, p, first, row.primary, a, b)
							if more {
								w.wantServedAt(t, from, p, second, row.more, a, b)
							}
						}
						loopback := netip.AddrPortFrom(netip.MustParseAddr(map[netns.Family]string{netns.IPv4: "127.0.0.1", netns.IPv6: "::1"}[f]), first.Port())
						served := row.loopback && p != traffic.SCTP
						if served {
							reached(t, w.Node, p, loopback)
						}
						w.wantServedAt(t, w.Node, p, loopback, served, a, b)
					}
				}
			}
			check(t, false)
			w.addAddresses(t, (*netlink.Handle).AddrAdd)
			if row.more {
				try := longer(t)
				eventually(t, "serving at the new addresses", func() error {
					for f, addr := range moreAddresses {
						to := netip.AddrPortFrom(addr, w.address(s, nodePort, traffic.UDP, f).Port())
						if r := (traffic.Client{NS: w.Client.NS}).Connect(try(), traffic.UDP, to); r.Outcome != traffic.Answered {
							return r.Err
						}
					}
					return nil
				})
			}
			check(t, true)
			w.addAddresses(t, (*netlink.Handle).AddrDel)
			check(t, false)
		})
	}
}

// A loopback port that somebody else has stays theirs, and the others are served.
func TestLocalhostNodePortTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--nodeport-addresses", "localhost"}})
	a, b := w.Local[0], w.RemotePods[0]
	taken := w.full("taken").to(ready(a, b))
	fine := w.full("fine").to(ready(a, b))
	loopback := netns.Host{NS: w.Node.NS, V4: netip.MustParseAddr("127.0.0.1"), V6: netip.IPv6Loopback()}
	port := uint16(taken.Spec.Ports[0].NodePort)
	serve(t, []uint16{port}, loopback)
	w.apply(t, taken, fine)
	w.wantLog(t, "NodePort is not served on a loopback address")
	for _, p := range []traffic.Protocol{traffic.TCP, traffic.UDP} {
		for _, f := range netns.Families() {
			w.want(t, w.Node, p, netip.AddrPortFrom(loopback.Addr(f), port), expected{outcome: traffic.Answered, sees: anySource}.and(port, loopback))
			w.want(t, w.Node, p, netip.AddrPortFrom(loopback.Addr(f), uint16(fine.Spec.Ports[0].NodePort)), spread(a, b).seen(anySource))
		}
	}
}

// wantServedAt checks that connections are served, or else that the node itself
// answers them, where nobody listens.
func (w *world) wantServedAt(t *testing.T, from netns.Host, p traffic.Protocol, to netip.AddrPort, served bool, hosts ...netns.Host) {
	t.Helper()
	if served {
		w.want(t, from, p, to, spread(hosts...).seen(anySource)) // any of its addresses
		return
	}
	r := traffic.Client{NS: from.NS, Timeout: dropTimeout}.Connect(t.Context(), p, to)
	if r.Outcome == traffic.Answered {
		t.Errorf("from %s to %s %s: %s, want nobody", from.Name(), p, to, r)
	}
}

// TestDumpOnTheNode: what dump prints on the node is what run has programmed there, whatever says where NodePorts are;
// of another node it knows no addresses.
func TestDumpOnTheNode(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		args []string
		node *corev1.Node
		want string // on the node
	}{
		{"no Node object", nil, nil, "172.18.0.2"},
		{"a Node object", nil, nodeObject(nil), "172.18.0.2"},
		{"a CIDR", []string{"--nodeport-addresses", "172.18.0.0/16"}, nil, "172.18.0.2"},
		{"a CIDR and a Node object", []string{"--nodeport-addresses", "172.18.0.0/16"}, nodeObject(nil), "172.18.0.2"},
		{"keywords", []string{"--nodeport-addresses", "localhost,primary"}, nil, "172.18.0.2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config{args: row.args})
			if row.node != nil {
				w.put(t, row.node)
			}
			w.apply(t, w.full("web").to(ready(w.Local[0])))
			dump := append([]string{"dump"}, w.args[1:]...)
			kernel := w.run(t, "dump", "--kernel")
			if diff := cmp.Diff(withoutFlags(kernel), w.run(t, dump...)); diff != "" {
				t.Errorf("dump is not what run has programmed (-run +dump):\n%s", diff)
			}
			if !strings.Contains(kernel, row.want) {
				t.Errorf("NodePorts are not at %s:\n%s", row.want, kernel)
			}
			other := nodeObject(func(n *corev1.Node) {
				n.Name = "other"
				n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.18.0.99"}}
			})
			w.put(t, other)
			elsewhere := w.run(t, append(dump, "--hostname-override", "other")...)
			if strings.Contains(elsewhere, row.want) {
				t.Errorf("the other node has this one's addresses:\n%s", elsewhere)
			}
		})
	}
}
