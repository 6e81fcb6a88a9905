// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

const (
	servicePort = 80
	rejectPort  = 81
	icmpPort    = 82
)

// loadService makes the node translate a service address to a backend, and
// reject other ports of it.
func loadService(t *testing.T, c *netns.Cluster, backend netns.Host) {
	t.Helper()
	for _, f := range netns.Families() {
		r := newRuleset(t, c.Node.NS, f)
		chains := r.destination()
		service := netns.ServiceAddr(f, 10)
		for _, p := range Protocols() {
			r.rule(chains, r.to(p, netip.AddrPortFrom(service, servicePort)), r.dnat(netip.AddrPortFrom(backend.Addr(f), port)))
			r.rule(chains, r.to(p, netip.AddrPortFrom(service, rejectPort)), r.refuse(p))
			r.rule(chains, r.to(p, netip.AddrPortFrom(service, icmpPort)), r.unreachable())
		}
		post := r.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
		r.rule([]*nftables.Chain{post}, r.from(c.Outside.Addr(f)), []expr.Any{&expr.Masq{}})
		r.rule([]*nftables.Chain{post}, r.from(backend.Addr(f)), []expr.Any{&expr.Masq{}})
		r.commit(t)
	}
}

// From a pod, from the node itself, and, masqueraded, from outside.
func TestTranslation(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	backend := c.RemotePods[4]
	loadService(t, c, backend)
	serve(t, backend, port)
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		to := netip.AddrPortFrom(netns.ServiceAddr(f, 10), servicePort)
		answers := netip.AddrPortFrom(backend.Addr(f), port)
		wantAnswer(t, c.Client, p, to, answers, c.Client.Addr(f))
		wantAnswer(t, c.Node, p, to, answers, c.Node.Addr(f))
		wantAnswer(t, c.Outside, p, to, answers, c.Node.Addr(f))
	})
}

// A pod reaches itself through its service.
func TestHairpin(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	pod := c.Local[1]
	loadService(t, c, pod)
	serve(t, pod, port)
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		to := netip.AddrPortFrom(netns.ServiceAddr(f, 10), servicePort)
		r := Client{NS: pod.NS}.Connect(context.Background(), p, to)
		if r.Outcome != Answered || r.Backend.Addr() != pod.Addr(f) || r.Peer.Addr() == pod.Addr(f) {
			t.Errorf("%s, want an answer of the pod that saw the node", r)
		}
	})
}

// More often than ICMP rate limits would allow.
func TestReject(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	loadService(t, c, c.RemotePods[4])
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		for _, from := range []netns.Host{c.Client, c.Node, c.Outside} {
			for range 20 {
				wantRefusal(t, from, p, netip.AddrPortFrom(netns.ServiceAddr(f, 10), rejectPort))
			}
		}
	})
}

// The kernel forgets an ICMP error that comes while the socket is still busy with
// connect: over veth with IPv6 always, it seems (TcpExtLockDroppedIcmps counts it),
// so that TCP hears of it only with its second SYN, after a second.
func TestTCPIsRefusedByICMP(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	loadService(t, c, c.RemotePods[4])
	for _, f := range netns.Families() {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			client := Client{NS: c.Client.NS, Timeout: 4 * time.Second}
			r := client.Connect(context.Background(), TCP, netip.AddrPortFrom(netns.ServiceAddr(f, 10), icmpPort))
			if r.Outcome != Refused {
				t.Errorf("%s, want refused", r)
			}
			t.Logf("refused after %v", r.Elapsed)
		})
	}
}

// A refusal concerns the connection that it is meant for, even where raw sockets
// to one address share all packets.
func TestConnectionsAtTheSameTime(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	backend := c.RemotePods[4]
	loadService(t, c, backend)
	serve(t, backend, port)
	each(t, func(t *testing.T, p Protocol, f netns.Family) {
		service := netns.ServiceAddr(f, 10)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				answers := netip.AddrPortFrom(backend.Addr(f), port)
				wantAnswer(t, c.Client, p, netip.AddrPortFrom(service, servicePort), answers, c.Client.Addr(f))
			})
			all.Go(func() { wantRefusal(t, c.Client, p, netip.AddrPortFrom(service, rejectPort)) })
		}
		all.Wait()
	})
}

// SCTP packets that the node spoils on the way are told from good ones, in both directions.
func TestChecksumIsChecked(t *testing.T) {
	if KernelSCTP() {
		t.Skip("the kernel speaks SCTP: it checks packets itself, and veth leaves the checksum out")
	}
	const window = 12 + 8 // offset of a field that nobody looks at
	for _, f := range netns.Families() {
		c := netnstest.NewCluster(t, netns.Config{})
		backend := c.RemotePods[4]
		s := serve(t, backend, port)
		to := netip.AddrPortFrom(backend.Addr(f), port)
		connect := func(client Client) Result { return client.Connect(context.Background(), SCTP, to) }

		load := func(match func(ruleset) []expr.Any) {
			r := newRuleset(t, c.Node.NS, f)
			r.conn.DelTable(r.table)
			r.conn.AddTable(r.table)
			forward := r.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
			r.rule([]*nftables.Chain{forward}, protocol(SCTP), match(r), spoil(window))
			err := r.conn.Flush()
			if errors.Is(err, syscall.EPERM) && netns.InUserNamespace() {
				t.Skip("this kernel (Linux 7.3 is one) lets nobody change packets by rules in a user namespace")
			}
			if err != nil {
				t.Fatalf("load %s rules: %v", f, err)
			}
		}

		load(func(r ruleset) []expr.Any { return r.from(c.Client.Addr(f)) })
		// Long enough to open a socket on a slow machine, before which nothing is sent.
		if r := connect(Client{NS: c.Client.NS, Timeout: netns.Patience() / 20}); r.Outcome != TimedOut {
			t.Errorf("%s: spoilt INIT: %s, want timed out", f, r)
		}
		if bad := waitBad(s); len(bad) != 1 || !errors.Is(bad[0], errChecksum) {
			t.Errorf("%s: spoilt INIT: server noted %v, want one wrong checksum", f, bad)
		}
		if got := s.Requests(); len(got) != 0 {
			t.Errorf("%s: spoilt INIT: server took %v as requests", f, got)
		}

		load(func(r ruleset) []expr.Any { return r.from(backend.Addr(f)) })
		if r := connect(Client{NS: c.Client.NS}); r.Outcome != Failed || !errors.Is(r.Err, errChecksum) {
			t.Errorf("%s: spoilt INIT ACK: %s, want a wrong checksum", f, r)
		}
	}
}

// waitBad returns what a server has noted of broken packets, once there is some: it may get a packet later than its
// client gives up.
func waitBad(s *Server) []error {
	bad := s.Bad()
	for deadline := time.Now().Add(netns.Patience()); len(bad) == 0 && time.Now().Before(deadline); bad = s.Bad() {
		time.Sleep(time.Millisecond)
	}
	return bad
}

// A packet that is lost shows, whenever the connection works in the end.
func TestResent(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	serve(t, c.Local[0], port)
	for _, f := range netns.Families() {
		to := netip.AddrPortFrom(c.Local[0].Addr(f), port)
		client := Client{NS: c.Client.NS, Timeout: 10 * time.Second}
		if r := client.Connect(context.Background(), TCP, to); r.Outcome != Answered || r.Resent != 0 {
			t.Errorf("%s, after sending %d packets again, want none", r, r.Resent)
		}
		rules := newRuleset(t, c.Node.NS, f)
		chain := rules.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
		// Of the connection before, packets may still be on their way.
		first := []expr.Any{&expr.Quota{Bytes: 100}, &expr.Verdict{Kind: expr.VerdictDrop}} // one SYN
		rules.rule([]*nftables.Chain{chain}, rules.to(TCP, to), syn(), first)
		rules.commit(t)
		if r := client.Connect(context.Background(), TCP, to); r.Outcome != Answered || r.Resent != 1 {
			t.Errorf("%s, after sending %d packets again, want 1", r, r.Resent)
		}
	}
}
