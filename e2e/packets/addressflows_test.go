// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// toMoreAddresses makes outside send packets to the node's further addresses to the node, which may not have them yet
// and sends them back then. They are lost in silence.
func (w *world) toMoreAddresses(t *testing.T) {
	t.Helper()
	node, err := w.Node.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	outside, err := w.Outside.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	uplink, err := node.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	bridge, err := outside.LinkByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range moreAddresses {
		err := outside.NeighSet(&netlink.Neigh{LinkIndex: bridge.Attrs().Index, IP: a.AsSlice(), State: netlink.NUD_PERMANENT,
			HardwareAddr: uplink.Attrs().HardwareAddr})
		if err != nil {
			t.Fatal(err)
		}
		err = node.NeighSet(&netlink.Neigh{LinkIndex: uplink.Attrs().Index, IP: a.AsSlice(), State: netlink.NUD_PERMANENT,
			HardwareAddr: bridge.Attrs().HardwareAddr})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sentOn counts the node's connections of a protocol to its further addresses that are sent on to an endpoint.
func (w *world) sentOn(t *testing.T, p traffic.Protocol) int {
	t.Helper()
	n := 0
	for _, flow := range w.tracked(t) {
		at := dialledAt(flow)
		for _, a := range moreAddresses {
			if flow.Forward.Protocol == uint8(p) && at.Addr() == a && answersFrom(flow) != at {
				n++
			}
		}
	}
	return n
}

// dropResets keeps the node from refusing connections by itself, where it has an address before nftproxy knows.
func (w *world) dropResets(t *testing.T) {
	t.Helper()
	conn := w.nft(t)
	table := conn.AddTable(&nftables.Table{Name: "resets", Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{Name: "output", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw}) // before connection tracking
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(traffic.TCP)}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{4}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

// A client that sends to a NodePort at an address that the node does not have yet, as that of a virtual IP on its
// way, is served once the node has it: also on the socket with which it began. When the address goes, so do the flows.
func TestFlowsToNodePortsOfAnAddressThatComes(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		args []string
	}{
		{"all", []string{"--nodeport-addresses", "all"}},
		{"CIDRs", []string{"--nodeport-addresses", "172.18.0.64/26,fd00:172:18::40/122"}},
		{"primary and CIDRs", []string{"--nodeport-addresses", "primary,172.18.0.64/26,fd00:172:18::40/122"}},
		{"the Node object's", []string{"--nodeport-addresses", "primary"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config{args: row.args})
			w.put(t, nodeObject(nil))
			w.toMoreAddresses(t)
			a := w.Local[0]
			s := w.applied(t, w.full("web").to(ready(a)))
			var flows []*established
			var tcp []way
			for _, f := range netns.Families() {
				at := netip.AddrPortFrom(moreAddresses[f], w.address(s, nodePort, traffic.TCP, f).Port())
				tcp = append(tcp, way{w.Outside, at})
				for _, p := range datagrams() {
					e := establish(t, w.Outside, p, at)
					if r := e.askSoon(t); r.Outcome == traffic.Answered {
						t.Fatalf("%s: %s before the node has the address", e.name, r)
					}
					flows = append(flows, e)
				}
			}
			w.dropResets(t)
			results := w.dialAll(t, tcp)
			w.addAddresses(t, (*netlink.Handle).AddrAdd)
			if row.name == "the Node object's" {
				w.put(t, nodeObject(func(n *corev1.Node) {
					n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: moreAddresses[netns.IPv4].String()},
						{Type: corev1.NodeInternalIP, Address: moreAddresses[netns.IPv6].String()}}
				}))
			}
			for _, e := range flows {
				wantServed(t, e, spread(a))
			}
			for range tcp {
				if err := spread(a).oneOf(<-results); err != nil {
					t.Errorf("TCP: %v", err)
				}
			}
			if n := w.sentOn(t, traffic.UDP); n == 0 {
				t.Error("no flow of UDP is known to be sent on")
			}
			w.addAddresses(t, (*netlink.Handle).AddrDel)
			w.put(t, nodeObject(nil))
			eventually(t, "the end of flows to addresses that have gone", func() error {
				if n := w.sentOn(t, traffic.UDP); n > 0 {
					return fmt.Errorf("there are %d", n)
				}
				return nil
			})
			if n := w.sentOn(t, traffic.SCTP); n == 0 {
				t.Error("answered associations are gone, too")
			}
		})
	}
}

// Flows in other conntrack zones, as CNI plugins make them, leave endpoints that are gone, and so do those of clients
// that wait.
func TestStaleFlowsInZones(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b := w.Local[0], w.RemotePods[0]
	s := w.applied(t, w.service("dns").to(ready(a)))
	dead := w.applied(t, w.service("dead").to(ready(w.silentPod(t, w.Remote, netns.RemoteCIDR4, netns.RemoteCIDR6))))
	w.zone(t, 5)
	flows := w.flows(t, s, datagrams())
	for _, e := range flows {
		e.ask(t)
	}
	results := w.dial(t, dead, w.clients()...)
	waiting := w.flows(t, dead, datagrams())
	askAll(t, waiting)
	if n := w.inZone(t, 5); n < len(flows)+len(waiting) {
		t.Fatalf("%d connections are in zone 5, want %d", n, len(flows)+len(waiting))
	}
	w.apply(t, s.to(ready(b)), dead.to(ready(b)))
	for _, e := range append(flows, waiting...) {
		wantServed(t, e, spread(b))
	}
	results.want(t, b)
}

// zone has the node track all connections in a zone.
func (w *world) zone(t *testing.T, zone uint16) {
	t.Helper()
	conn := w.nft(t)
	table := conn.AddTable(&nftables.Table{Name: "zones", Family: nftables.TableFamilyINet})
	for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		chain := conn.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRaw})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint16(zone)},
			&expr.Ct{Register: 1, Key: expr.CtKeyZONE, SourceRegister: true},
		}})
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

// inZone counts the node's connections in a zone.
func (w *world) inZone(t *testing.T, zone uint16) int {
	t.Helper()
	n := 0
	for _, flow := range w.tracked(t) {
		if flow.Zone == zone {
			n++
		}
	}
	return n
}
