// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

const (
	// noticeTimeout is how long the cluster may take until no endpoint of a dead node is
	// ready: the grace period of 12 s after the node's last sign of life, and its controllers' work.
	noticeTimeout = 20 * time.Second
	// settleTimeout is how long nftproxy may take to do what the EndpointSlices say.
	settleTimeout = time.Second
)

// loseNode: a node is cut off. Connections to its endpoints fail until the cluster has
// noticed, and no others do; from then on none does, nor when its pods are made anew
// elsewhere and the node is deleted.
func (s *site) loseNode() {
	dead := s.Nodes[1]
	share := s.share(dead)
	s.clients = s.clients[:1]
	l := s.startLoad("a node goes away")
	died := time.Now()
	must(s.t, s.Network.Unplug(dead.Host))
	dead.Kill()
	noticed := s.waitNotReady(dead)
	l.more(600)
	l.stop()
	l.report()
	s.t.Logf("no endpoint of the dead node, which had %.0f %% of them, was ready after %.1f s; the last fault began %.3f s later",
		100*share, noticed.Sub(died).Seconds(), l.lastFault().Sub(noticed).Seconds())
	if took := noticed.Sub(died); took > noticeTimeout {
		s.t.Errorf("endpoints of the dead node were ready for %v, want %v", took, noticeTimeout)
	}
	l.wantFaultsOnly(noticed.Add(settleTimeout), share)
	s.wantRegulars(l)

	s.under("making the dead node's pods anew", func() {
		must(s.t, Poll(s.t.Context(), stepTimeout, func(context.Context) error {
			if n := s.onNode(s.Nodes[0].Name()); n != 6 {
				return fmt.Errorf("%d web pods on %s, want 6", n, s.Nodes[0].Name())
			}
			return nil
		}))
		s.waitWeb(6)
		must(s.t, s.Client().CoreV1().Nodes().Delete(s.t.Context(), dead.Name(), metav1.DeleteOptions{}))
	})
	s.want(20 * time.Second)
}

// share returns which part of the Services' ready endpoints is on a node.
func (s *site) share(n *Node) float64 {
	s.t.Helper()
	there, all := s.on(n)
	return float64(len(there)) / float64(all)
}

// on returns the ready endpoints of a Service on a node, some but not all, and how many there are on all nodes.
func (s *site) on(n *Node) (there []netip.AddrPort, all int) {
	s.t.Helper()
	endpoints, err := s.endpoints(s.t.Context(), "web", netns.IPv4)
	must(s.t, err)
	for _, e := range endpoints {
		if e.node == n.Name() {
			there = append(there, e.at)
		}
	}
	if len(there) == 0 || len(there) == len(endpoints) {
		s.t.Fatalf("%d of %d endpoints are on %s", len(there), len(endpoints), n.Name())
	}
	return there, len(endpoints)
}

// waitNotReady waits until no ready endpoint of the Services is on a node, and returns since when.
func (s *site) waitNotReady(n *Node) time.Time {
	s.t.Helper()
	must(s.t, Poll(s.t.Context(), stepTimeout, func(ctx context.Context) error {
		for _, service := range []string{"web", "web-nodeport"} {
			for _, f := range netns.Families() {
				endpoints, err := s.endpoints(ctx, service, f)
				if err != nil {
					return err
				}
				for _, e := range endpoints {
					if e.node == n.Name() {
						return fmt.Errorf("%s on the dead %s is a ready endpoint of Service %s", e.at, e.node, service)
					}
				}
			}
		}
		return nil
	}))
	return time.Now()
}
