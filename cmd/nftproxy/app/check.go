// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/check"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/host"
)

// exitFailed is the exit code of check when something failed.
const exitFailed = 1

type checkOptions struct {
	wantOptions
	root string // of /proc, for tests
}

func checkCommand(version string) *cobra.Command {
	o := checkOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}, root: "/"}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether this node is ready for nftproxy",
		Long: `Check this node: the kernel and each feature of nftables that is used, connection
tracking, forwarding, software that competes, and the source of Services with the
rights that it needs. One line each: ok, warning or failed, with what to do.

The exit code is 0 if nothing failed, 1 if something did. A table named
nftproxy-check is made and removed; nothing else is changed. Where 'nftproxy run' runs,
the rights that it has are shown.`,
		Example: `  nftproxy check --manifests /etc/nftproxy/services
  nftproxy check --kubeconfig /etc/kubernetes/proxy.conf`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	o.add(cmd.Flags())
	return lookingCommand(cmd, &o.wantOptions)
}

func (o *checkOptions) run(ctx context.Context, stdout io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	c := coloursFor(stdout)
	r := &check.Report{W: stdout, Paint: func(s check.State, text string) string {
		switch s {
		case check.Failure:
			return c.red(text)
		case check.Warning:
			return c.yellow(text)
		}
		return c.green(text)
	}}
	n := check.Node{
		Root: o.root, Table: tableName(o.source.proxyName), ProxyName: o.source.proxyName, Settings: host.Tracking(&o.kubeProxy.Conntrack),
		Manifests: o.source.manifests,
		Client:    func() (kubernetes.Interface, error) { return o.client() },
		Running:   func() (string, []string) { return runningOf(o.root, o.source.proxyName) },
	}
	n.Check(ctx, r)
	if r.Failed {
		return &exitError{code: exitFailed}
	}
	return nil
}
