// SPDX-License-Identifier: Apache-2.0

//go:build linux

package check

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// lab is a network namespace that is checked.
type lab struct {
	*netns.NS
	t *testing.T
}

func newLab(t *testing.T) lab {
	t.Helper()
	ns, err := netns.New(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab{ns, t}
}

func (h lab) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// do calls fn in the namespace, with netlink.
func (h lab) do(fn func(*netlink.Handle) error) {
	h.t.Helper()
	handle, err := h.Netlink()
	h.must(err)
	defer handle.Close()
	h.must(fn(handle))
}

// link adds an interface with an address, and sets it up.
func (h lab) link(l netlink.Link, cidr string) {
	h.t.Helper()
	h.do(func(handle *netlink.Handle) error {
		if err := handle.LinkAdd(l); err != nil {
			return err
		}
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := handle.AddrAdd(l, a); err != nil {
			return err
		}
		return handle.LinkSetUp(l)
	})
}

// check returns the report of the parts that look at the network and at nftables.
func (h lab) check(addresses ...string) (*Report, string) {
	h.t.Helper()
	var out bytes.Buffer
	r := &Report{W: &out}
	n := Node{Root: "/", Table: "nftproxy", Addresses: addresses, Running: func() (string, []string) { return "", nil }}
	h.must(h.Do(func() error {
		n.tracking(h.t.Context(), r)
		n.forwarding(r)
		n.routing(r)
		n.ports(r)
		return n.nftables(r)
	}))
	return r, out.String()
}

// says looks for lines of a report.
func (h lab) says(report string, want ...string) {
	h.t.Helper()
	for _, w := range want {
		if !strings.Contains(report, w) {
			h.t.Errorf("no %q in\n%s", w, report)
		}
	}
}

// TestDroppingChains: a chain of others that drops by its policy is named, with a rule that lets connections to endpoints pass.
func TestDroppingChains(t *testing.T) {
	h := newLab(t)
	_, text := h.check()
	h.says(text, "ok       other filter chains              none that drops")
	h.must(h.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		drop, accept := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
		table := conn.AddTable(&nftables.Table{Name: "fw", Family: nftables.TableFamilyINet})
		for _, c := range []nftables.Chain{
			{Name: "forward", Hooknum: nftables.ChainHookForward, Policy: &drop}, {Name: "in", Hooknum: nftables.ChainHookInput, Policy: &drop},
			{Name: "out", Hooknum: nftables.ChainHookOutput, Policy: &drop}, {Name: "fine", Hooknum: nftables.ChainHookForward, Policy: &accept},
		} {
			c.Table, c.Type, c.Priority = table, nftables.ChainTypeFilter, nftables.ChainPriorityFilter
			conn.AddChain(&c)
		}
		return conn.Flush()
	}))
	_, text = h.check()
	h.says(text, "warning  other filter chains              inet fw forward: policy drop, also for connections to endpoints in pods, unless a rule accepts them, such as 'nft insert rule inet fw forward ct status dnat accept'",
		"warning  other filter chains              inet fw in: policy drop, also for connections to endpoints in this node's own network, and health checks")
	if strings.Contains(text, "fw out") || strings.Contains(text, "fw fine") {
		t.Errorf("a chain that drops nothing on the way to endpoints is named:\n%s", text)
	}
	h.must(h.Do(func() error { // as the lines say
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		for _, name := range []string{"forward", "in"} {
			conn.InsertRule(&nftables.Rule{Table: &nftables.Table{Name: "fw", Family: nftables.TableFamilyINet}, Chain: &nftables.Chain{Name: name}, Exprs: []expr.Any{
				&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
				&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, 0x20), Xor: make([]byte, 4)},
				&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
				&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept},
			}})
		}
		return conn.Flush()
	}))
	_, text = h.check()
	h.says(text, "ok       other filter chains              those that drop by their policy have a rule that accepts connections to endpoints")
}

// TestRoutes: a node without a default route hears of it, in the family of its addresses.
func TestRoutes(t *testing.T) {
	h := newLab(t)
	_, text := h.check()
	if strings.Contains(text, "default route") {
		t.Errorf("a node without an address hears of routes:\n%s", text)
	}
	near := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "far"}
	near.Name = "eth0"
	h.link(near, "10.1.0.2/24")
	_, text = h.check()
	h.says(text, "warning  default route, IPv4")
	if strings.Contains(text, "default route, IPv6") {
		t.Errorf("a node without an IPv6 address hears of its routes:\n%s", text)
	}
	h.do(func(handle *netlink.Handle) error {
		_, all, err := net.ParseCIDR("0.0.0.0/0")
		if err != nil {
			return err
		}
		return handle.RouteAdd(&netlink.Route{LinkIndex: near.Index, Dst: all})
	})
	_, text = h.check()
	h.says(text, "ok       default route, IPv4              there is one")
}

// TestBridges: where packets between the ports of a bridge pass the rules by, check says so and offers to change it.
func TestBridges(t *testing.T) {
	h := newLab(t)
	if _, err := h.Sysctl("bridge/bridge-nf-call-iptables"); err != nil {
		t.Skip("the kernel has no br_netfilter: ", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "cni0"
	h.link(&netlink.Bridge{LinkAttrs: attrs}, "10.1.0.1/24")
	h.must(h.SetSysctl("bridge/bridge-nf-call-iptables", "0"))
	r, text := h.check()
	h.says(text, "warning  bridges                          cni0: a pod whose connection to a Service goes to an endpoint on its own bridge gets no answer", "sysctl -w net.bridge.bridge-nf-call-iptables=1")
	for _, f := range r.Fixes {
		if strings.Contains(f.What, "bridge") {
			h.must(h.Do(f.Do))
		}
	}
	if got, err := h.Sysctl("bridge/bridge-nf-call-iptables"); got != "1" || err != nil {
		t.Errorf("after the fix it is %q, %v", got, err)
	}
	h.must(h.SetSysctl("bridge/bridge-nf-call-ip6tables", "1"))
	_, text = h.check()
	h.says(text, "ok       bridges                          cni0: packets between their ports meet the rules")
}

// TestReversePath: the strict filter harms where a node has several interfaces.
func TestReversePath(t *testing.T) {
	h := newLab(t)
	h.must(h.SetSysctl("ipv4/conf/all/rp_filter", "1"))
	for i, name := range []string{"one", "two"} {
		l := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "far-" + name}
		l.Name = name
		h.link(l, []string{"10.1.0.1/24", "10.2.0.1/24"}[i])
		_, text := h.check()
		h.says(text, []string{"ok       reverse path filter", "warning  reverse path filter              strict on one, two"}[i])
	}
	h.must(h.SetSysctl("ipv4/conf/all/rp_filter", "2"))
	_, text := h.check()
	h.says(text, "ok       reverse path filter")
}

// TestPorts: a port of ours that somebody has is named.
func TestPorts(t *testing.T) {
	h := newLab(t)
	const address = "127.0.0.1:10256"
	_, text := h.check(address)
	h.says(text, "ok       ports of our own                 "+address+" are free")
	var l net.Listener
	h.must(h.Do(func() (err error) { l, err = net.Listen("tcp", address); return err }))
	defer l.Close()
	_, text = h.check(address)
	h.says(text, "warning  ports of our own", "address already in use", "ss -ltnp sport = :10256")
}

// TestTracked: a table that is nearly full is a warning.
func TestTracked(t *testing.T) {
	for _, tt := range []struct {
		entries, most uint32
		want          string
	}{
		{79, 100, "ok       connection tracking's table      79 of 100 entries, 79 %"},
		{80, 100, "warning  connection tracking's table      80 of 100 entries, 80 %: the kernel drops new connections where it is full"},
		{7, 0, "ok       connection tracking's table      7 entries, without a limit"},
	} {
		var out bytes.Buffer
		(&Report{W: &out}).tracked(conntrack.Usage{Entries: tt.entries, Max: tt.most})
		if !strings.HasPrefix(out.String(), tt.want) {
			t.Errorf("%d of %d: %s", tt.entries, tt.most, out.String())
		}
	}
}
