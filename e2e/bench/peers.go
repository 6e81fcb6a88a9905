// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// peer is a proxy that is measured.
type peer struct {
	name    string
	program string
	args    []string // before those that all peers get
	needs   []string // programs that it runs
	packets bool     // of it only the data plane is measured
}

// programs are the executables of the peers.
type programs struct{ nftproxy, kubeProxy string }

// peers lists all. kube-proxy leaves the machine's own
// conntrack settings alone, which are not the namespace's.
func peers(exe programs) []peer {
	leave := []string{"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"}
	return []peer{
		{name: report.Nftproxy, program: exe.nftproxy, args: append([]string{"run"}, leave...)},
		{name: report.Failover, program: exe.nftproxy, args: append([]string{"run", "--failover"}, leave...), packets: true},
		{name: report.KubeProxyNftables, program: exe.kubeProxy, args: append([]string{"--proxy-mode=nftables"}, leave...), needs: []string{"nft"}},
		{name: report.KubeProxyIptables, program: exe.kubeProxy, args: append([]string{"--proxy-mode=iptables"}, leave...), needs: []string{"iptables", "iptables-save", "iptables-restore"}},
	}
}

// isNftproxy says whether it is one, whatever its flags.
func (p peer) isNftproxy() bool { return len(p.needs) == 0 }

// check says whether the machine has the programs that a peer runs.
func (p peer) check() error {
	for _, name := range p.needs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("it runs %s, which is not there: %w", name, err)
		}
	}
	return nil
}

// start starts a peer on the node.
func (s *site) start(p peer) (*proxy.Process, error) {
	args := slices.Concat(p.args, []string{"--kubeconfig=" + s.cp.Kubeconfig(), "--hostname-override=" + nodeName, "--cluster-cidr=" + netns.ClusterCIDR4})
	return proxy.Start(proxy.Config{Program: p.program, Args: args, NS: s.Node.NS})
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
