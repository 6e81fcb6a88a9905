// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// One cluster, many looks at it.
func TestCluster(t *testing.T) {
	c, err := NewCluster(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("settings", c.testSettings)
	t.Run("pods", c.testPods)
	t.Run("services", c.testServiceRoutes)
	t.Run("sizes", func(t *testing.T) {
		if len(c.Local) != 2 || len(c.RemotePods) != 19 {
			t.Errorf("%d local and %d remote pods, want 2 and 19", len(c.Local), len(c.RemotePods))
		}
		if got, want := c.RemotePods[18].V6, netip.MustParseAddr("fd00:10:244:2::14"); got != want {
			t.Errorf("last remote pod %s, want %s", got, want)
		}
	})
}

// Values are those of the namespace, not of the machine: the node differs from the others. Nobody waits a second or two
// for duplicate address detection, which would make each cluster slow.
func (c *Cluster) testSettings(t *testing.T) {
	for _, n := range c.Namespaces() {
		want := "0"
		if n == c.Node.NS {
			want = "1"
		}
		for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if got, err := n.Sysctl(name); err != nil || got != want {
				t.Errorf("%s: %s = %q (%v), want %s", n.Name(), name, got, err, want)
			}
		}
	}
	for _, n := range c.Namespaces() {
		for _, scope := range []string{"all", "default"} {
			name := "ipv6/conf/" + scope + "/accept_dad"
			if got, err := n.Sysctl(name); err != nil || got != "0" {
				t.Errorf("%s: %s = %q (%v), want 0", n.Name(), name, got, err)
			}
		}
	}
	if err := c.Node.SetSysctl("ipv4/no_such_setting", "1"); err == nil {
		t.Error("an unknown setting was accepted")
	}
}

// Every pod and node reaches every pod, itself included, at the first packet.
func (c *Cluster) testPods(t *testing.T) {
	pods := append([]Host{c.Client, c.RemotePods[0], c.RemotePods[18]}, c.Local...)
	for _, f := range Families() {
		for _, to := range pods {
			address := listen(t, to, f)
			for _, from := range append([]Host{c.Node, c.Remote}, pods...) {
				if err := dial(from.NS, address, Patience()); err != nil {
					t.Errorf("%s from %s to %s: %v", f, from.Name(), to.Name(), err)
				}
			}
		}
	}
}

// A service address leads from everywhere through the node.
func (c *Cluster) testServiceRoutes(t *testing.T) {
	for _, f := range Families() {
		for _, tc := range []struct {
			from Host
			via  netip.Addr
		}{
			{c.Client, host(nil, PodCIDR4, PodCIDR6, 1).Addr(f)},
			{c.Outside, c.Node.Addr(f)},
			{c.Node, c.Outside.Addr(f)},
		} {
			handle, err := tc.from.Netlink()
			if err != nil {
				t.Fatal(err)
			}
			defer handle.Close()
			routes, err := handle.RouteGet(ServiceAddr(f, 0xfffe).AsSlice())
			if err != nil || len(routes) != 1 || !routes[0].Gw.Equal(tc.via.AsSlice()) {
				t.Errorf("%s from %s: route %v (%v), want via %s", f, tc.from.Name(), routes, err, tc.via)
			}
		}
	}
}

func TestClusterTooLarge(t *testing.T) {
	if c, err := NewCluster(Config{LocalPods: 9}); err == nil {
		c.Close()
		t.Error("nine local pods were accepted")
	}
}

// Everything that a failed build made is let go.
func TestBuilderStopsAtFirstError(t *testing.T) {
	b := newBuilder()
	n := b.namespace("a", false)
	defer n.Close()
	b.bridge(n, "a-name-that-is-too-long")
	first := b.err
	b.bridge(n, "fine")
	if err := b.finish(); !errors.Is(err, first) {
		t.Errorf("finish = %v, want the first error %v", err, first)
	}
}

// listen accepts connections at the host's address until the test ends.
func listen(t *testing.T, h Host, f Family) string {
	t.Helper()
	var listener net.Listener
	err := h.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(h.Addr(f), 0).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// dial connects. It fails if a packet was lost on the way, which TCP hides.
func dial(n *NS, address string, timeout time.Duration) error {
	return n.Do(func() error {
		conn, err := net.DialTimeout("tcp", address, timeout)
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		var info *unix.TCPInfo
		failed := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) })
		if err = errors.Join(failed, err); err == nil && info.Total_retrans > 0 {
			err = fmt.Errorf("connected, but after sending %d packets again", info.Total_retrans)
		}
		return err
	})
}
