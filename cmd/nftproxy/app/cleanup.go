// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/rules/kernel"
)

func cleanupCommand() *cobra.Command {
	var proxyName string
	var kubeProxy bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove nftproxy's tables from this node",
		Long: `Remove nftproxy's tables from this node.

With --kube-proxy remove what kube-proxy left, too: its nftables tables and its chains
in the tables of iptables-nft. What it left elsewhere, this command names. The tables
of an nftproxy that is running stay then, so that a node that has changed over from
kube-proxy can be cleared without an interruption.`,
		Example: `  nftproxy cleanup
  nftproxy cleanup --kube-proxy`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, pid := cmd.OutOrStdout(), runningNftproxy("/")
			switch {
			case kubeProxy && pid != "":
				fmt.Fprintf(out, "nftproxy is running as process %s: its tables stay\n", pid)
			case pid != "":
				fmt.Fprintf(out, "nftproxy is running as process %s, and writes its tables again: stop it first\n", pid)
				fallthrough
			default:
				if err := cleanup(out, tableName(proxyName)); err != nil {
					return err
				}
			}
			if kubeProxy {
				return cleanupKubeProxy(out, "/")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&proxyName, "service-proxy-name", "", "`name` that 'nftproxy run' was given")
	cmd.Flags().BoolVar(&kubeProxy, "kube-proxy", false, "remove what kube-proxy left, too")
	return cmd
}

// cleanup removes the tables of a name.
func cleanup(w io.Writer, table string) error {
	k, err := kernel.Open()
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	n, err := k.Remove(table)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "removed %d of the tables ip %[2]s and ip6 %[2]s\n", n, table)
	return err
}
