// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nodeaddr

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// TestWatch follows addresses that come and go.
func TestWatch(t *testing.T) {
	ns, err := netns.New("node")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	handle, err := ns.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	var w *Watcher
	if err := ns.Do(func() (err error) { w, err = Watch(func(err error) { t.Error(err) }); return err }); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	<-w.Changed() // the first list

	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	veth := netlink.NewVeth(attrs)
	veth.PeerName = "peer"
	link := func(change func(netlink.Link) error) func() error {
		return func() error {
			l, err := handle.LinkByName("eth0")
			if err != nil {
				return err
			}
			return change(l)
		}
	}
	address := func(cidr string, change func(netlink.Link, *netlink.Addr) error) func() error {
		return link(func(l netlink.Link) error {
			a, err := netlink.ParseAddr(cidr)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			return change(l, a)
		})
	}
	for _, step := range []struct {
		name   string
		change func() error
		want   string
	}{
		{"nothing but loopback", func() error { return nil }, "[127.0.0.1 ::1]"},
		{"a link", func() error { return handle.LinkAdd(veth) }, "[127.0.0.1 ::1]"},
		{"up, with a link-local address", link(handle.LinkSetUp), "[127.0.0.1 ::1]"},
		{"an IPv4 address", address("172.18.0.2/24", handle.AddrAdd), "[127.0.0.1 172.18.0.2 ::1]"},
		{"an IPv6 address", address("fd00:172:18::2/64", handle.AddrAdd), "[127.0.0.1 172.18.0.2 ::1 fd00:172:18::2]"},
		{"another one", address("10.9.0.1/32", handle.AddrAdd), "[10.9.0.1 127.0.0.1 172.18.0.2 ::1 fd00:172:18::2]"},
		{"one less", address("172.18.0.2/24", handle.AddrDel), "[10.9.0.1 127.0.0.1 ::1 fd00:172:18::2]"},
		{"no link", link(handle.LinkDel), "[127.0.0.1 ::1]"},
	} {
		if err := step.change(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		deadline := time.After(5 * time.Second)
		for fmt.Sprint(w.Addrs()) != step.want {
			select {
			case <-w.Changed():
			case <-deadline:
				t.Fatalf("%s: addresses %v, want %s", step.name, w.Addrs(), step.want)
			}
		}
	}
}

// TestEndlessChanges: changes that never rest are listed all the same.
func TestEndlessChanges(t *testing.T) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	synctest.Test(t, func(t *testing.T) {
		w := &Watcher{handle: handle, warn: func(err error) { t.Error(err) }, changed: make(chan struct{}, 1), stop: make(chan struct{})}
		updates := make(chan struct{})
		w.done.Go(func() { w.run(updates) })
		for range 10 {
			updates <- struct{}{}
			time.Sleep(settleTime / 2) // of the bubble's clock
		}
		if len(w.changed) == 0 {
			t.Error("nothing was listed while changes kept coming")
		}
		close(w.stop)
		w.done.Wait()
	})
}

func TestWatchCloseAtOnce(t *testing.T) {
	for range 20 {
		w, err := Watch(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
}
