// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/check"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/host"
	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

type checkOptions struct {
	wantOptions
	root string // of /proc, for tests
	fix  bool
	yes  bool // to what fix asks
}

func checkCommand(version string) *cobra.Command {
	o := checkOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}, root: "/"}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether this node is ready for nftproxy",
		Long: `Check this node: the kernel and each feature of nftables that is used, connection
tracking, forwarding, routes, bridges, ports, other programs' rules, and the source of
Services with the rights that it needs. One line each: ok, warning or failed, with what to do.

The exit code is 0 if nothing failed, 1 if something did, 2 after an error. A table named
nftproxy-check is made and removed; nothing else is changed, but for what you answer 'y'
to with --fix, or all of that with --fix -y. Where 'nftproxy run' runs, the rights that it
has are shown, and which others wait to take over from it.`,
		Example: `  nftproxy check --manifests /etc/nftproxy/services
  nftproxy check --kubeconfig /etc/kubernetes/proxy.conf`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	o.add(cmd.Flags())
	cmd.Flags().BoolVar(&o.fix, "fix", false, "ask, for each sysctl that is amiss, and set it at 'y'")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "answer 'y' to all that --fix asks")
	return lookingCommand(cmd, &o.wantOptions)
}

func (o *checkOptions) run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	if o.yes && !o.fix {
		return errors.New("--yes answers what --fix asks: give both")
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
		Addresses: o.addresses(), Manifests: o.source.manifests,
		Client:  func() (*apiclient.Client, error) { return o.client() },
		Running: func() (string, []string) { return runningOf(o.root, o.source.proxyName) },
	}
	n.Check(ctx, r)
	if o.fix {
		if err := mend(r.Fixes, o.yes, stdin, stdout); err != nil {
			return err
		}
	}
	if r.Failed {
		return &exitError{code: exitNo}
	}
	return nil
}

// addresses returns where nftproxy would serve health checks and metrics.
func (o *checkOptions) addresses() (out []string) {
	for _, a := range []string{o.kubeProxy.HealthzBindAddress, o.kubeProxy.MetricsBindAddress} {
		if a != "" {
			out = append(out, a)
		}
	}
	return out
}

// mend asks about each fix, and carries out those that are wanted; with all set, each.
func mend(fixes []check.Fix, all bool, stdin io.Reader, stdout io.Writer) error {
	if len(fixes) == 0 {
		fmt.Fprintln(stdout, "there is nothing that --fix can do")
	}
	answers := bufio.NewScanner(stdin)
	var errs []error
	for _, f := range fixes {
		fmt.Fprintf(stdout, "%s? [y/N] ", f.What)
		yes := all || answers.Scan() && strings.EqualFold(strings.TrimSpace(answers.Text()), "y")
		if all {
			fmt.Fprintln(stdout, "y")
		}
		if !yes {
			fmt.Fprintln(stdout, "left as it is")
			continue
		}
		if err := f.Do(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.What, err))
			continue
		}
		fmt.Fprintln(stdout, "done")
	}
	return errors.Join(errs...)
}
