// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
)

// worldOptions says what the commands that tell of Services know of them.
type worldOptions struct {
	wantOptions
	kernel bool // what this node's kernel holds is the only source
}

func newWorldOptions(version string) worldOptions {
	return worldOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}}
}

// namesFromKernel takes the kernel as the source if no other one is named.
func (o *worldOptions) namesFromKernel() { o.kernel = !o.given() }

// world gathers what explanations are made from, and says what its source told besides.
func (o *worldOptions) world(ctx context.Context, stderr io.Writer) (*explain.World, *explain.Observer, error) {
	seen := explain.NewObserver()
	config, err := o.proxierConfig()
	if err != nil {
		return nil, nil, err
	}
	var own []netip.Addr
	var interfaceTo func(netip.Addr) (string, error)
	if addresses, aerr := nodeaddr.Watch(ctx, nil); aerr == nil {
		defer addresses.Close()
		own, interfaceTo = addresses.Addrs(), addresses.InterfaceTo
	}
	if o.kernel {
		have, kerr := readKernel(config.Rules.Table)
		if kerr != nil {
			return nil, nil, kerr
		}
		w := explain.FromKernel(have)
		w.Node.Name, w.Config.PodCIDRs, w.Config.PodInterface = config.Cluster.NodeName, config.Rules.PodCIDRs, config.Rules.PodInterface
		w.Local, w.InterfaceTo = append(w.Local, own...), interfaceTo
		return w, seen, nil
	}
	w := seen.World()
	have, err := readKernel(config.Rules.Table)
	if err != nil { // there is much to explain without it
		w.Problem = err.Error()
	} else {
		w.Have = &have
		w.Local, w.InterfaceTo = own, interfaceTo
	}
	if w.Snapshot, err = o.snapshot(ctx, w.Have != nil, seen, stderr); w.Have != nil {
		w.Follow(*w.Have)
	}
	w.PodsUnknown = guesses(&o.wantOptions) && len(w.Config.PodCIDRs) == 0 && w.Config.PodInterface == ""
	if err == nil && o.source.manifests == "" && !seen.HasNode() {
		tell(stderr, fmt.Errorf("the cluster has no Node %s, so its zone and addresses are not known: name a Node with --hostname-override", config.Cluster.NodeName))
	}
	for _, a := range slices.Concat(w.Node.NodePortIPs, w.Node.IPs[:]) {
		if a.IsValid() && !slices.Contains(w.Local, a) {
			w.Local = append(w.Local, a)
		}
	}
	return w, seen, err
}
