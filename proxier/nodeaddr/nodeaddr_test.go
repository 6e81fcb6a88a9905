// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nodeaddr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
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
	if err := ns.Do(func() (err error) { w, err = Watch(t.Context(), func(err error) { t.Error(err) }); return err }); err != nil {
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
	services := func(cidrs ...string) func() error {
		return func() error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = IPVSLink
			bridge := &netlink.Bridge{LinkAttrs: attrs} // a dummy, really
			err := handle.LinkAdd(bridge)
			for _, cidr := range cidrs {
				a, parseErr := netlink.ParseAddr(cidr)
				err = errors.Join(err, parseErr)
				if err == nil {
					a.Flags = unix.IFA_F_NODAD
					err = handle.AddrAdd(bridge, a)
				}
			}
			return err
		}
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
		{"what kube-proxy's IPVS mode left", services("10.96.0.1/32", "fd00:96::1/128"), "[127.0.0.1 ::1]"},
		{"beside a link of the node", func() error { return handle.LinkAdd(veth) }, "[127.0.0.1 ::1]"},
		{"with an address", address("172.18.0.2/24", handle.AddrAdd), "[127.0.0.1 172.18.0.2 ::1]"},
	} {
		if err := step.change(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		deadline := time.After(netns.Patience())
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
		w := &Watcher{handle: handle, warn: func(err error) { t.Error(err) }, changed: make(chan struct{}, 1), stop: make(chan struct{}),
			dump: func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_ALL) }}
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

// TestInterrupted: a list that the kernel could not finish in one go is asked for again until it is whole. Its
// part is never taken for all.
func TestInterrupted(t *testing.T) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	part, whole := []netlink.Addr{addr("10.0.0.1/32")}, []netlink.Addr{addr("10.0.0.1/32"), addr("10.0.0.2/32")}
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		start, warned := time.Now(), 0
		w := &Watcher{handle: handle, changed: make(chan struct{}, 1), stop: make(chan struct{}), warn: func(error) { warned++ }}
		w.dump = func() ([]netlink.Addr, error) {
			asked = append(asked, time.Since(start))
			if len(w.Addrs()) > 0 {
				t.Error("a part was taken for all")
			}
			if len(asked) < 20 {
				return part, netlink.ErrDumpInterrupted
			}
			return whole, nil
		}
		if err := w.list(w.stop); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(w.Addrs()); got != "[10.0.0.1 10.0.0.2]" {
			t.Errorf("addresses %s", got)
		}
		if asked[1] > 0 || asked[19]-asked[18] != retryTime {
			t.Errorf("asked at %v: want the second time at once, in the end each %v", asked, retryTime)
		}
		if warned == 0 {
			t.Error("nobody was told")
		}
	})
}

// TestInterruptedStops when the watch ends.
func TestInterruptedStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Watcher{changed: make(chan struct{}, 1), stop: make(chan struct{}), warn: func(error) {},
			dump: func() ([]netlink.Addr, error) { return nil, netlink.ErrDumpInterrupted }}
		time.AfterFunc(time.Minute, func() { close(w.stop) })
		if err := w.list(w.stop); err == nil {
			t.Error("a list that never was whole is no error")
		}
	})
}

// TestInterruptedStart: a watch that cannot begin, as every list is interrupted, gives up with its context, as when
// the program is told to end.
func TestInterruptedStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &Watcher{home: vishnetns.None(), changed: make(chan struct{}, 1), stop: make(chan struct{}), warn: func(error) {},
		dump: func() ([]netlink.Addr, error) {
			cancel()
			return nil, netlink.ErrDumpInterrupted
		}}
	started := make(chan error, 1)
	go func() { started <- w.start(ctx) }()
	select {
	case err := <-started:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the start ended with %v, want %v", err, context.Canceled)
		}
	case <-time.After(netns.Patience()):
		t.Error("the start goes on after the end of its context")
	}
	w.Close()
}

func addr(cidr string) netlink.Addr {
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		panic(err)
	}
	return *a
}

// TestInterfacesComeAndGo: a watch begins, and lists all addresses, while another program makes and removes interfaces.
func TestInterfacesComeAndGo(t *testing.T) {
	ns, err := netns.New("churn")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	handle, err := ns.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	const addresses = 2000 // a list of several messages
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "stays"
	stays := netlink.NewVeth(attrs)
	stays.PeerName = "stays-peer"
	if err := handle.LinkAdd(stays); err != nil {
		t.Fatal(err)
	}
	if err := handle.LinkSetUp(stays); err != nil {
		t.Fatal(err)
	}
	for i := range addresses {
		a := addr(fmt.Sprintf("10.1.%d.%d/32", i/250, i%250+1))
		if err := handle.AddrAdd(stays, &a); err != nil {
			t.Fatal(err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan error)
	var once sync.Once
	end := func() {
		once.Do(func() {
			close(stop)
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
	defer end()
	go func() { stopped <- churn(ns, stop) }()
	for range 50 {
		var w *Watcher
		if err := ns.Do(func() (err error) { w, err = Watch(t.Context(), nil); return err }); err != nil {
			t.Fatal(err)
		}
		if n := len(w.Addrs()); n < addresses {
			t.Errorf("%d addresses, want at least %d", n, addresses)
		}
		w.Close()
	}
	end()
}

// churn gives loopback an address and takes it away, as a network plugin does with pods' interfaces, until stop.
func churn(ns *netns.NS, stop <-chan struct{}) error {
	handle, err := ns.Netlink()
	if err != nil {
		return err
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if i%50 == 0 { // costly
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "pod"
			pod := netlink.NewVeth(attrs)
			pod.PeerName = "pod-peer"
			if err := handle.LinkAdd(pod); err != nil {
				return err
			}
			if err := handle.LinkDel(pod); err != nil {
				return err
			}
		}
		a := addr("10.9.9.9/32")
		if err := handle.AddrAdd(lo, &a); err != nil {
			return err
		}
		if err := handle.AddrDel(lo, &a); err != nil {
			return err
		}
	}
}

func TestWatchCloseAtOnce(t *testing.T) {
	for range 20 {
		w, err := Watch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
}
