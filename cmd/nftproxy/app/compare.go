// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/compare"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/rules/foreign"
	"github.com/nftproxy/nftproxy/rules/inspect"
)

type compareOptions struct {
	wantOptions
	output string
}

func compareCommand(version string) *cobra.Command {
	o := compareOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}}
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Say what would change if nftproxy took over from this node's kube-proxy",
		Long: `Take the rules that kube-proxy has on this node, follow a connection to each frontend
through them and through those that nftproxy would program, and print where it comes out
otherwise: at which ClusterIP, NodePort, external IP or load balancer's IP, for a pod, this
node or a client outside; to which endpoints, masqueraded or not, refused or dropped, and for
how long a client stays with its endpoint. Nothing is changed.

kube-proxy's mode may be nftables, or iptables with iptables-nft. Legacy iptables and IPVS are
not read: this command says so then. How connections are spread over the endpoints is not
compared. Give kube-proxy's own configuration with --config, and what 'nftproxy run' is to get
besides.

The exit code is 0 if nothing would change, 1 if something would, 2 after an error.`,
		Example: `  nftproxy compare --config /var/lib/kube-proxy/config.conf
  nftproxy compare --kubeconfig /etc/kubernetes/proxy.conf --cluster-cidr 10.244.0.0/16`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.add(cmd.Flags())
	cmd.Flags().StringVarP(&o.output, "output", "o", "text", "`format`: text or json")
	completeWith(cmd, "output", "text", "json")
	return lookingCommand(cmd, &o.wantOptions)
}

func (o *compareOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := textOrJSON(o.output); err != nil {
		return err
	}
	theirs, err := kubeProxyRules("/")
	if err != nil {
		return err
	}
	w, err := o.plannedWorld(ctx, stderr)
	if err != nil {
		return err
	}
	result, err := compare.Of(w, theirs, theirs.Mode(), o.servesLoopback())
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	if o.output == "json" {
		err = writeJSON(stdout, result)
	} else {
		err = result.WriteText(stdout)
	}
	if err == nil && result.Differing > 0 {
		return &exitError{code: exitNo}
	}
	return err
}

// kubeProxyRules reads the rules of this node's kube-proxy. root is that of /proc.
func kubeProxyRules(root string) (*foreign.Ruleset, error) {
	i, err := inspect.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close() }()
	dumps, err := i.KubeProxyRules()
	if err != nil {
		return nil, err
	}
	theirs, err := foreign.New(dumps)
	switch {
	case err != nil:
		return nil, err
	case theirs.Mode() != "":
		return theirs, nil
	case kubeproxy.ServesElsewhere(root):
		return nil, errors.New("kube-proxy has no rules in nf_tables here, but there are some of legacy iptables or of IPVS, which this command does not read: " +
			"have kube-proxy use iptables-nft or its mode nftables first")
	}
	return nil, errors.New("there are no rules of kube-proxy in this network namespace: run this on the node, with its network")
}

// plannedWorld is what nftproxy would program here, whatever the kernel has now.
func (o *compareOptions) plannedWorld(ctx context.Context, stderr io.Writer) (*explain.World, error) {
	addresses, err := nodeaddr.Watch(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer addresses.Close()
	seen := explain.NewObserver()
	w := seen.World()
	if w.Snapshot, err = o.snapshot(ctx, true, seen, stderr); err != nil {
		return nil, err
	}
	if o.source.manifests == "" && !seen.HasNode() {
		tell(stderr, fmt.Errorf("the cluster has no Node %s, so its zone and addresses are not known: name this node with --hostname-override", w.Node.Name))
	}
	w.Local, w.InterfaceTo = addresses.Addrs(), addresses.InterfaceTo
	for _, a := range slices.Concat(w.Node.NodePortIPs, w.Node.IPs[:]) {
		if a.IsValid() && !slices.Contains(w.Local, a) {
			w.Local = append(w.Local, a)
		}
	}
	return w, nil
}

// servesLoopback says whether nftproxy itself would forward NodePorts at 127.0.0.1.
func (o *compareOptions) servesLoopback() bool {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	p := nodePorts(o.kubeProxy.NodePortAddresses)
	return slices.ContainsFunc(p.CIDRs, func(c netip.Prefix) bool { return c.Bits() > 0 && c.Contains(loopback) })
}
