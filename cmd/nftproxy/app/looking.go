// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes of the commands that look and change nothing.
const (
	exitDiffers = 1 // diff: the kernel is not as it should be
	exitFault   = 2 // the command line, the source or the kernel cannot be read
)

// exitError is an error with an exit code of its own. Without a cause there is
// nothing more to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// ExitCode returns the exit code that Run is to return.
func (e *exitError) ExitCode() int { return e.code }

// lookingCommand resolves the options before a command runs, and gives all its faults
// the exit code 2.
func lookingCommand(cmd *cobra.Command, o *wantOptions) *cobra.Command {
	return askingCommand(cmd, o, func(*cobra.Command, []string) (bool, error) { return false, nil })
}

// askingCommand is a lookingCommand that asks the nftproxy that runs here first. asks says whether that has answered.
func askingCommand(cmd *cobra.Command, o *wantOptions, asks func(*cobra.Command, []string) (bool, error)) *cobra.Command {
	fault := func(err error) error {
		var coded *exitError
		if err == nil || errors.As(err, &coded) {
			return err
		}
		return &exitError{exitFault, err}
	}
	args, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, a []string) error { return fault(args(cmd, a)) }
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if asked, err := asks(cmd, a); asked || err != nil {
			return fault(err)
		}
		say := func(note string) { fmt.Fprintln(cmd.ErrOrStderr(), "nftproxy:", note) }
		if err := o.resolve(cmd.Flags(), "/", say); err != nil {
			return fault(err)
		}
		return fault(run(cmd, a))
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fault(err) })
	return cmd
}
