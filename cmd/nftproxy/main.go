// SPDX-License-Identifier: Apache-2.0

// Command nftproxy forwards connections to Kubernetes Services to their
// endpoints with nftables, in place of kube-proxy.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set when the program is linked.
var version = "unknown"

func main() {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run carries out a command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := rootCommand()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "nftproxy: %v\n", err)
		return 1
	}
	return 0
}

func rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nftproxy",
		Short: "A service proxy for Kubernetes nodes that programs nftables directly",
		Long: `nftproxy forwards TCP, UDP and SCTP connections to Kubernetes Services to their
endpoints, round robin, over IPv4 and IPv6. It replaces kube-proxy: it watches
Services and EndpointSlices and programs nftables over netlink, with no other
program's help.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	cmd.AddCommand(runCommand(), dumpCommand(), cleanupCommand(), versionCommand())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		},
	}
}
