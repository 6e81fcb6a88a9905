// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"

	"github.com/spf13/cobra"
)

// lookingCommand resolves the options before a command runs.
func lookingCommand(cmd *cobra.Command, o *wantOptions) *cobra.Command {
	return askingCommand(cmd, o, func(*cobra.Command, []string) (bool, error) { return false, nil })
}

// askingCommand is a lookingCommand that asks the nftproxy that runs here first. asks says whether that has answered.
func askingCommand(cmd *cobra.Command, o *wantOptions, asks func(*cobra.Command, []string) (bool, error)) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if asked, err := asks(cmd, a); asked || err != nil {
			return err
		}
		say := func(note string) { fmt.Fprintln(cmd.ErrOrStderr(), "nftproxy:", note) }
		if err := o.resolve(cmd.Flags(), "/", say); err != nil {
			return err
		}
		return run(cmd, a)
	}
	return cmd
}
