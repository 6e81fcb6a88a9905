// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/plugin"
)

// relayName is the command that kubectl's plugin runs in pods.
const relayName = "relay"

func relayCommand(version string) *cobra.Command {
	o := &sourceOptions{version: version}
	cmd := &cobra.Command{
		Use:   relayName,
		Short: "Lead standard input and output to the nftproxy that runs here",
		Long: `Write a line, and then lead standard input to the socket of the nftproxy that runs here,
and what that answers to standard output, until one of them ends. 'kubectl nftproxy ui'
runs it in pods.`,
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := o.dial(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			conn, err := client.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return relay(cmd.Context(), conn, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	o.addSocket(cmd.Flags())
	return cmd
}

// relay leads an input to a connection, and what comes from that to an output, until one of them or ctx ends.
func relay(ctx context.Context, conn net.Conn, in io.Reader, out io.Writer) error {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := fmt.Fprintln(out, plugin.RelayReady); err != nil {
		return err
	}
	go func() { // until the process ends
		_, _ = io.Copy(conn, in)
		_ = conn.Close() // nobody is there for an answer
	}()
	if _, err := io.Copy(out, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("relay what nftproxy answers: %w", err)
	}
	return nil
}
