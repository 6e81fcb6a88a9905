// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// fabric is two nodes with rules, through either of which a client outside reaches Services: node1 and node2 of the network. The endpoints
// of the policy Cluster are on node3, which answers through the node that the client uses, too. Those nodes have one endpoint each.
type fabric struct {
	t *testing.T
	*netns.Nodes
	family  rules.Family
	service netip.Addr
}

// podAt is an endpoint's address on a node.
func podAt(f rules.Family, node, i int) netip.Addr {
	a := netns.NodePods(ip(f), node).Addr().AsSlice()
	a[len(a)-1] += byte(i + 10)
	out, _ := netip.AddrFromSlice(a)
	return out
}

func ip(f rules.Family) netns.Family { return netns.Families()[f] }

func (n *fabric) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// far is how many endpoints are on node3.
const far = 20

func newFabric(t *testing.T, f rules.Family, loose string) *fabric {
	t.Helper()
	nodes, err := netns.NewNodes(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nodes.Close() })
	n := &fabric{t, nodes, f, netip.MustParseAddr([...]string{"10.96.0.10", "fd00:96::10"}[f])}
	for i, host := range n.Nodes.Nodes {
		count := far
		if i < 2 {
			count = 1
			n.must(host.SetSysctl("netfilter/nf_conntrack_tcp_loose", loose))
		}
		n.serve(host, i, count)
	}
	return n
}

// serve answers at the endpoints of a node: with what it is asked.
func (n *fabric) serve(host netns.Host, node, count int) {
	h, err := host.Netlink()
	n.must(err)
	defer h.Close()
	lo, err := h.LinkByName("lo")
	n.must(err)
	for i := range count {
		a := podAt(n.family, node, i)
		n.must(h.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, Flags: unix.IFA_F_NODAD}))
	}
	var l net.Listener
	n.must(host.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprint(":", backendPort))
		return err
	}))
	n.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// program programs the Service on node1 and node2.
func (n *fabric) program(sp rules.ServicePort, c rules.Config) {
	c = c.WithDefaults()
	for i := range 2 {
		host := n.Nodes.Nodes[i]
		var k *kernel.Kernel
		n.must(host.Do(func() (err error) {
			k, err = kernel.Open()
			return err
		}))
		n.t.Cleanup(func() { _ = k.Close() })
		node := rules.Node{Name: host.Name()}
		d := rules.NewDesired(c, node)
		n.must(k.Apply(rules.Diff(rules.State{}, d.State())))
		var list []rules.Endpoint
		for j := range far {
			list = append(list, rules.Endpoint{Addr: netip.AddrPortFrom(podAt(n.family, 2, j), backendPort), Ready: true})
		}
		for j := range 2 {
			if sp.ExternalLocal {
				list = append(list, rules.Endpoint{Addr: netip.AddrPortFrom(podAt(n.family, j, 0), backendPort), Ready: true, Local: i == j})
			}
		}
		owner := rules.Owner{ServicePortName: sp.Name, Family: sp.Family}
		n.must(k.Apply(d.Update([]rules.Owned{{Owner: owner, Objects: rules.Build(sp, list, c, node)}})))
	}
}

// through makes the client and node3 use a node for what goes to the Service, and for the answers.
func (n *fabric) through(node int) {
	n.t.Helper()
	gateway := n.Nodes.Nodes[node].Addr(ip(n.family))
	for _, r := range []struct {
		in     netns.Host
		device string
		to     netip.Addr
	}{{n.Outside, "br0", n.service}, {n.Nodes.Nodes[2], "eth0", n.Outside.Addr(ip(n.family))}} {
		h, err := r.in.Netlink()
		n.must(err)
		link, err := h.LinkByName(r.device)
		n.must(err)
		n.must(h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice(),
			Dst: &net.IPNet{IP: r.to.AsSlice(), Mask: net.CIDRMask(r.to.BitLen(), r.to.BitLen())}}))
		h.Close()
	}
}

// ask sends a byte and waits for it to come back.
func ask(c net.Conn, wait time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// TestFlowMovesToAnotherNode: TCP connections that are open when their packets begin to come in at another node. They go on where nothing is
// masqueraded and the node's connection tracking takes packets from the midst of a connection. Where the node masquerades, or has only endpoints of its own,
// they are reset. Where it takes no such packets, they get no answer until their packets come in at the first node again.
func TestFlowMovesToAnotherNode(t *testing.T) {
	rows := []struct {
		name          string
		routed, local bool
		loose         string
		want          error // nil: they go on
	}{
		{"nothing is masqueraded", true, false, "1", nil},
		{"nothing is masqueraded, strict", true, false, "0", syscall.ETIMEDOUT},
		{"the policy Cluster", false, false, "1", syscall.ECONNRESET},
		{"the policy Cluster, strict", false, false, "0", syscall.ETIMEDOUT},
		{"the policy Local", false, true, "1", syscall.ECONNRESET},
		{"the policy Local, strict", false, true, "0", syscall.ETIMEDOUT},
	}
	for _, f := range rules.Families {
		for _, row := range rows {
			t.Run(row.name+" "+f.String(), func(t *testing.T) {
				n := newFabric(t, f, row.loose)
				sp, c := servicePort("web", rules.Maglev, rules.TCP, f), rules.Config{}
				switch client := n.Outside.Addr(ip(f)); {
				case row.routed:
					c.PodCIDRs = []netip.Prefix{netip.PrefixFrom(client, client.BitLen())}
				default:
					sp.ClusterIP, sp.ExternalIPs, sp.ExternalLocal = netip.Addr{}, []netip.Addr{n.service}, row.local
				}
				n.program(sp, c)
				n.through(0)
				var open []net.Conn
				flows := 8
				if errors.Is(row.want, syscall.ETIMEDOUT) {
					flows = 2 // each takes a while to be sent again
				}
				for range flows {
					n.must(n.Outside.Do(func() error {
						c, err := net.DialTimeout("tcp", netip.AddrPortFrom(n.service, sp.Port).String(), netns.Patience())
						if err == nil {
							open = append(open, c)
							t.Cleanup(func() { _ = c.Close() })
							err = ask(c, netns.Patience())
						}
						return err
					}))
				}
				n.through(1)
				for i, c := range open {
					n.moved(i, c, row.want)
				}
			})
		}
	}
}

// silence is how long no answer must come for there to be none.
const silence = 50 * time.Millisecond

// moved checks what becomes of a connection at the other node: want is nil, that it is reset, or that it gets no answer.
func (n *fabric) moved(i int, c net.Conn, want error) {
	n.t.Helper()
	if !errors.Is(want, syscall.ETIMEDOUT) {
		if err := ask(c, netns.Patience()); !errors.Is(err, want) {
			n.t.Errorf("connection %d at the other node: %v, want %v", i, err, want)
		}
		return
	}
	var timeout net.Error
	if err := ask(c, silence); !errors.As(err, &timeout) || !timeout.Timeout() {
		n.t.Errorf("connection %d at the other node: %v, want no answer", i, err)
		return
	}
	n.through(0)
	n.must(c.SetDeadline(time.Now().Add(netns.Patience())))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		n.t.Errorf("connection %d at the first node again: %v, want the answer", i, err)
	}
	n.through(1)
}
