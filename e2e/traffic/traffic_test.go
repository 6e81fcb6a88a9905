// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

const port = 8080

// Without translation the backend is who was asked and sees the client itself.
func TestDirect(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	backends := []netns.Host{c.Local[0], c.RemotePods[0], c.RemotePods[18]}
	for _, b := range backends {
		serve(t, b, port)
	}
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		for _, b := range backends {
			to := netip.AddrPortFrom(b.Addr(f), port)
			for _, from := range []netns.Host{c.Client, c.Local[0], c.Local[1]} {
				wantAnswer(t, from, p, to, to, from.Addr(f))
			}
		}
		to := netip.AddrPortFrom(c.RemotePods[0].Addr(f), port)
		wantAnswer(t, c.Node, p, to, to, c.Node.Addr(f))
	})
}

func TestServerRemembersRequests(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	s := serve(t, c.Local[0], port)
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		before := len(s.Requests())
		to := netip.AddrPortFrom(c.Local[0].Addr(f), port)
		r := Client{NS: c.Client.NS}.Connect(context.Background(), p, to)
		got := s.Requests()[before:]
		want := Request{Endpoint{p, to}, r.Local}
		if len(got) != 1 || got[0] != want {
			t.Errorf("requests %v, want %v", got, want)
		}
	})
	s.Forget()
	if got := s.Requests(); len(got) != 0 {
		t.Errorf("%d requests are there after they were forgotten", len(got))
	}
}

func TestNobodyThere(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	for _, f := range netns.Families() {
		to := netip.AddrPortFrom(c.Local[0].Addr(f), port)
		wantRefusal(t, c.Client, TCP, to)
		wantRefusal(t, c.Client, UDP, to)
		if KernelSCTP() {
			if r := (Client{NS: c.Client.NS}).Connect(context.Background(), SCTP, to); r.Outcome != Refused {
				t.Errorf("SCTP to a port without a server: %s, want refused", r)
			}
			continue
		}
		// Without any raw socket the kernel says that it does not know the protocol, at once:
		// over IPv6 as a fault of the packet.
		want := map[netns.Family]Outcome{netns.IPv4: Refused, netns.IPv6: Failed}[f]
		r := Client{NS: c.Client.NS}.Connect(context.Background(), SCTP, to)
		if r.Outcome != want || r.Err == nil {
			t.Errorf("SCTP over %s to a host without raw sockets: %s, want %s", f, r, want)
		}
	}
	if KernelSCTP() {
		return
	}
	serve(t, c.Local[0], port)
	for _, f := range netns.Families() {
		// With one, nothing comes for a port that has no server.
		r := short(c.Client.NS).Connect(context.Background(), SCTP, netip.AddrPortFrom(c.Local[0].Addr(f), port+1))
		if r.Outcome != TimedOut {
			t.Errorf("SCTP to a port without a server: %s, want timed out", r)
		}
	}
}

// Service addresses lead nowhere without rules: outside drops what it gets.
func TestTimeout(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		for _, from := range []netns.Host{c.Client, c.Node} {
			client := short(from.NS)
			r := client.Connect(context.Background(), p, netip.AddrPortFrom(netns.ServiceAddr(f, 10), port))
			if r.Outcome != TimedOut || r.Elapsed < client.Timeout || r.Elapsed > client.Timeout+netns.Patience() {
				t.Errorf("from %s: %s, want timed out after %v", from.Name(), r, client.Timeout)
			}
		}
	})
}

func TestCancel(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		ctx, cancel := context.WithCancel(context.Background())
		defer time.AfterFunc(5*time.Millisecond, cancel).Stop()
		client := Client{NS: c.Client.NS, Timeout: time.Minute}
		r := client.Connect(ctx, p, netip.AddrPortFrom(netns.ServiceAddr(f, 10), port))
		if r.Outcome != Failed || r.Elapsed > netns.Patience() {
			t.Errorf("%s, want failed at once", r)
		}
	})
}

// One connection answers many requests, and is closed with its server.
func TestConnStaysOpen(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		to := netip.AddrPortFrom(c.Local[0].Addr(f), port)
		s, err := Serve(c.Local[0].NS, Endpoint{p, to})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		conn, err := Client{NS: c.Client.NS}.Open(context.Background(), p, to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 3 {
			if r := conn.Ask(context.Background()); r.Outcome != Answered || r.Peer != r.Local {
				t.Fatalf("%s, want an answer to %s", r, r.Local)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("close server: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), short(c.Client.NS).Timeout)
		defer cancel()
		if r := conn.Ask(ctx); r.Outcome == Answered {
			t.Errorf("%s, want no answer of a closed server", r)
		}
	})
}

func TestSourceOfTheCallersChoice(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	serve(t, c.Local[0], port)
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		want := netip.AddrPortFrom(c.RemotePods[7].Addr(f), 5555)
		client := Client{NS: c.Remote.NS, Source: want}
		for range 2 { // the port is free again at once
			r := client.Connect(context.Background(), p, netip.AddrPortFrom(c.Local[0].Addr(f), port))
			if r.Outcome != Answered || r.Peer != want {
				t.Errorf("%s, want seen as %s", r, want)
			}
		}
	})
}

func TestPortsInUseArePassedOver(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	serve(t, c.Local[0], port)
	serve(t, c.Client, c.Client.NextPort()+1)
	to := netip.AddrPortFrom(c.Local[0].V4, port)
	wantAnswer(t, c.Client, UDP, to, to, c.Client.V4)
	taken := netip.AddrPortFrom(c.Client.V4, port)
	serve(t, c.Client, port)
	r := Client{NS: c.Client.NS, Source: taken, Timeout: time.Second}.Connect(context.Background(), UDP, to)
	if !errors.Is(r.Err, syscall.EADDRINUSE) {
		t.Errorf("%s, want address in use", r)
	}
}

func TestServeSaysWhatIsWrong(t *testing.T) {
	n, err := netns.New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, address := range []string{"0.0.0.0:80", "[::]:80", "127.0.0.1:0", "10.9.9.9:80"} {
		for _, p := range Protocols() {
			s, err := Serve(n, Endpoint{TCP, netip.MustParseAddrPort("127.0.0.1:99")}, Endpoint{p, netip.MustParseAddrPort(address)})
			if err == nil {
				s.Close()
				t.Errorf("served %s at %s", p, address)
			}
		}
	}
}
