// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/lock"
)

func readyCommand() *cobra.Command {
	var proxyName string
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Tell whether the nftproxy of this container is ready",
		Long: `Ask the 'nftproxy run' of this container, or of this machine outside of containers,
whether it is ready: whether it has programmed all Services or, while another nftproxy
writes the tables, could take over at once. It is for a kubelet's readiness probe, of
kind exec: while a DaemonSet with maxSurge is updated, two nftproxies share a node's
addresses, and a probe of kind httpGet is answered by the old one for both.

The exit code is 0 if it is ready, 1 if not, or if there is none or it cannot be asked, 2 if
the command line is wrong.`,
		Example: `  nftproxy ready`,
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&proxyName, "service-proxy-name", "", "`name` that 'nftproxy run' was given (default: all that run here)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := ready(cmd.OutOrStdout(), "/", func(name string) bool { return name == proxyName || !cmd.Flags().Changed("service-proxy-name") })
		if err != nil {
			return &exitError{exitNo, err}
		}
		return nil
	}
	return cmd
}

// ready asks each process whose --service-proxy-name is one of these, and fails unless all are ready.
func ready(w io.Writer, root string, named func(proxyName string) bool) error {
	found, notes := runningNftproxies(root)
	asked := 0
	for _, p := range found {
		if !p.Here() || !named(proxyNameIn(p.Args)) {
			continue
		}
		it, err := lock.Ask(p.ID)
		if err != nil {
			return err
		}
		if !it.Ready {
			return fmt.Errorf("nftproxy is not ready yet: %s", it.Describe())
		}
		fmt.Fprintln(w, "ready:", it.Describe())
		asked++
	}
	if asked == 0 {
		for _, note := range notes {
			fmt.Fprintln(w, note)
		}
		return errors.New("no nftproxy runs here that could be asked")
	}
	return nil
}
