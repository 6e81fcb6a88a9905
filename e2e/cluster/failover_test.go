// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/outage"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// failoverReport is where TestFailover writes what it has measured.
const failoverReport = "failover-report"

// failoverScene: the controllers, which have Kubernetes' own settings here, notice a dead node after 40 to 55 s.
var failoverScene = outage.Scene{Rate: 200, Before: 5 * time.Second, After: 70 * time.Second, Timeout: 30 * time.Second}

// failoverPeer is a proxy of one node, and the connections of a pod there.
type failoverPeer struct {
	outage.Peer
	program string
	args    []string
	process *proxy.Process
}

func failoverPeers() []*failoverPeer {
	bin := filepath.Join(repository, "bin")
	return []*failoverPeer{
		{Peer: outage.Peer{Name: "kube-proxy", Title: "kube-proxy", Color: "#d55e00"}, program: filepath.Join(bin, "kube-proxy"), args: []string{"--proxy-mode=nftables"}},
		{Peer: outage.Peer{Name: "nftproxy", Title: "nftproxy", Color: "#7f7f7f"}, program: filepath.Join(bin, "nftproxy"), args: []string{"run"}},
		{Peer: outage.Peer{Name: "failover", Title: "nftproxy --failover", Color: "#0072b2"}, program: filepath.Join(bin, "nftproxy"), args: []string{"run", "--failover"}},
	}
}

// start starts the peer's proxy on a node, and waits until a client reaches all endpoints of a Service.
func (p *failoverPeer) start(s *site, node *Node, client *netns.NS, to netip.AddrPort, endpoints int) {
	s.t.Helper()
	args := append(p.args, "--kubeconfig="+s.Kubeconfig(), "--hostname-override="+node.Name(), "--cluster-cidr="+netns.ClusterCIDR4+","+netns.ClusterCIDR6,
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
	process, err := proxy.Start(proxy.Config{Program: p.program, Args: args, NS: node.NS})
	must(s.t, err)
	p.process = process
	s.t.Cleanup(func() {
		if s.t.Failed() {
			log := process.Log()
			s.t.Logf("%s on %s:\n%s", p.Title, node.Name(), log[max(0, len(log)-3000):])
		}
		process.Kill()
	})
	if err := Poll(s.t.Context(), time.Minute, func(ctx context.Context) error {
		seen := map[netip.AddrPort]bool{}
		for range 10 * endpoints { // kube-proxy's choice is random
			r := traffic.Client{NS: client, Timeout: time.Second}.Connect(ctx, traffic.TCP, to)
			if r.Outcome != traffic.Answered {
				return errors.New(r.String())
			}
			seen[r.Backend] = true
		}
		if len(seen) != endpoints {
			return fmt.Errorf("%d endpoints answer, want %d", len(seen), endpoints)
		}
		return nil
	}); err != nil {
		s.t.Fatalf("%s on %s: %v", p.Title, node.Name(), err)
	}
}

// TestFailover: a node loses its network while clients on three other nodes make new connections, one with kube-proxy, one with
// nftproxy, one with nftproxy --failover. There no connection fails or takes longer than 3.5 s, and those that begin 2 s after
// the loss take no longer than before, but for single trials of the ejected endpoints. What was measured is in failover-report.
func TestFailover(t *testing.T) {
	netnstest.Tool(t, "nft") // kube-proxy runs it
	peers := failoverPeers()
	for _, p := range peers {
		if _, err := os.Stat(p.program); err != nil {
			t.Fatalf("%v: run 'make e2e-cluster', which builds it", err)
		}
	}
	s := newSite(t, len(peers)+1)
	s.openShop()
	to := s.clusterIP("web")
	endpoints := 2 * len(s.Nodes) // a pod of the Deployment and one of the DaemonSet on each
	must(t, Poll(t.Context(), stepTimeout, func(ctx context.Context) error {
		list, err := s.endpoints(ctx, "web", netns.IPv4)
		if err == nil && len(list) != endpoints {
			err = fmt.Errorf("Service web has %d ready endpoints, want %d", len(list), endpoints)
		}
		return err
	}))
	dead := s.Nodes[len(peers)]
	lost, _ := s.on(dead)
	for i, p := range peers {
		p.start(s, s.Nodes[i], s.clients[i], to, endpoints)
	}
	last := len(peers) - 1
	seen := s.noteTrials(s.Nodes[last], lost)
	r := outage.Report{Scene: failoverScene, What: "a node loses its network"}
	r.Noticed = s.loseUnder(peers, dead, to, func() { seen.since(peers[last]) })
	for _, p := range peers {
		r.Peers = append(r.Peers, p.Peer)
	}
	must(t, r.Write(filepath.Join(repository, failoverReport)))
	t.Logf("%d of %d endpoints were on the dead node; none of them was ready after %.1f s\n%s", len(lost), endpoints, r.Noticed.Seconds(), r.Table())
	checkFailover(t, peers)
	n := seen.count()
	t.Logf("%d connections were sent to ejected endpoints", n)
	if n < len(lost) || n > 3*len(lost) { // each endpoint is tried after 10, 30 and 70 s
		t.Errorf("%d connections were sent to %d ejected endpoints, want one to three trials of each", n, len(lost))
	}
	checkLate(t, peers[last], n)
}

// checkLate checks that of the connections that began 2 s after the loss or later only trials failed or were slow.
func checkLate(t *testing.T, p *failoverPeer, trials int) {
	t.Helper()
	err := outage.LateAtMost(p.Connections, trials)
	switch held := failoverScene.Held(p.Connections); {
	case err != nil && held > 300*time.Millisecond:
		t.Logf("%s, on a machine that kept the client waiting for %v: %v", p.Title, held, err)
	case err != nil:
		t.Errorf("%s, with %d trials: %v", p.Title, trials, err)
	}
}

// loseUnder unplugs a node while all peers' clients connect, calls what comes next, and returns when Kubernetes said that it is gone.
func (s *site) loseUnder(peers []*failoverPeer, dead *Node, to netip.AddrPort, next func()) (noticed time.Duration) {
	s.t.Helper()
	zero := time.Now().Add(failoverScene.Before + 100*time.Millisecond)
	errs := make([]error, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			errs[i] = s.clients[i].Do(func() (err error) {
				p.Connections, err = failoverScene.Dial(to, zero)
				return err
			})
		})
	}
	<-time.After(time.Until(zero)) // a moment of the scene, not a wait for something
	lost := s.Network.Unplug(dead.Host)
	if lost == nil {
		next()
		noticed = s.waitNotReady(dead).Sub(zero)
	}
	wg.Wait()
	must(s.t, errors.Join(append(errs, lost)...))
	return noticed
}

// checkFailover checks what became of the connections.
func checkFailover(t *testing.T, peers []*failoverPeer) {
	t.Helper()
	for _, p := range peers {
		sum := outage.Summarize(p.Connections)
		if want := int(float64(failoverScene.Rate) * (failoverScene.Before + failoverScene.After).Seconds()); sum.Connections != want {
			t.Errorf("%s: %d connections, want %d", p.Title, sum.Connections, want)
		}
		if p.Name != "failover" {
			if sum.Failed == 0 {
				t.Errorf("%s: no connection failed: the scene proves nothing", p.Title)
			}
			continue
		}
		// A machine that keeps the client waiting may do so to everybody.
		if limit := 3500*time.Millisecond + failoverScene.Held(p.Connections); sum.Failed > 0 || sum.Longest > limit {
			t.Errorf("%s: %d connections failed, the longest took %v, want %v at most", p.Title, sum.Failed, sum.Longest, limit)
		}
		t.Logf("%s: of those that began 2 s after the loss or later these were slow: %v", p.Title, outage.Late(p.Connections))
	}
}
