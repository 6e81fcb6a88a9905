// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

// untilEOF is the flag of commands that go on: whoever runs one elsewhere and goes away lets its standard input end.
const untilEOF = "until-eof"

// untilUnheard gives a command that flag.
func untilUnheard(cmd *cobra.Command) *cobra.Command {
	var on bool
	cmd.Flags().BoolVar(&on, untilEOF, false, "end when standard input does")
	cmd.Flags().Lookup(untilEOF).Hidden = true
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !on {
			return run(cmd, args)
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		go func() { // until the process ends
			_, _ = io.Copy(io.Discard, cmd.InOrStdin())
			cancel()
		}()
		cmd.SetContext(ctx)
		return run(cmd, args)
	}
	return cmd
}
