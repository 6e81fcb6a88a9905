// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// hostPort is the client pods', by the CNI plugin portmap.
const hostPort = 30088

// TestBridge: a cluster whose pods are on a bridge on each node, with host ports beside the Services' NodePorts. Where the kernel has no
// br_netfilter, connections to ClusterIPs are masqueraded: else a pod gets no answer of an endpoint on its own bridge.
func TestBridge(t *testing.T) {
	for _, tool := range []string{filepath.Join(cniBinDir, "bridge"), filepath.Join(cniBinDir, "portmap"), "iptables"} {
		netnstest.Tool(t, tool)
	}
	s := newSiteWith(t, Config{Nodes: 2, Bridge: true, HostPorts: true})
	const mode = "    mode: nftables\n"
	edits := map[string]string{}
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		edits[mode] = mode + "    nftables: {masqueradeAll: true}\n"
	}
	s.installWith(edits)
	const port = "{name: tcp, containerPort: 8080"
	s.openShopWith(map[string]string{port + "}": fmt.Sprintf("%s, hostPort: %d}, {name: udp, containerPort: 8080, hostPort: %[2]d, protocol: UDP}", port, hostPort)})
	s.want()
	s.wantHostPorts()
	s.updateDeployment()
	s.wantHostPorts()
}

// wantHostPorts: each node's host port leads to its client pod, from everywhere, whatever the Services do.
func (s *site) wantHostPorts() {
	s.t.Helper()
	froms := append([]*netns.NS{s.Network.Outside.NS}, s.clients...)
	for _, n := range s.Nodes {
		froms = append(froms, n.NS)
	}
	pods, err := s.pods(s.t.Context(), "app=client")
	must(s.t, err)
	for _, n := range s.Nodes {
		for _, f := range netns.Families() {
			var want []netip.AddrPort
			for _, p := range pods {
				if p.Spec.NodeName == n.Name() {
					want = append(want, netip.AddrPortFrom(podAddr(p, f), backendPort))
				}
			}
			to := netip.AddrPortFrom(n.Addr(f), hostPort)
			for _, from := range froms {
				for _, p := range []traffic.Protocol{traffic.TCP, traffic.UDP} {
					must(s.t, Poll(s.t.Context(), 20*time.Second, func(ctx context.Context) error {
						if r := (traffic.Client{NS: from}).Connect(ctx, p, to); r.Outcome != traffic.Answered || !slices.Contains(want, r.Backend) {
							return fmt.Errorf("from %s to host port %s %s: %s, want an answer by %s", from.Name(), to, p, r, want)
						}
						return nil
					}))
				}
			}
		}
	}
}
