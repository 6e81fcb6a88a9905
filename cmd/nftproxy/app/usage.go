// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nftproxy/nftproxy/printable"
)

// Exit codes besides 0. A command's help says when it ends with 1.
const (
	exitNo    = 1 // the answer is no: tables differ, a check failed, nothing may be removed
	exitFault = 2 // the command line, the source or the kernel cannot be read, or what was to be done could not be
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

// exitCode returns the code of an error.
func exitCode(err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.code
	}
	return exitFault
}

// saysUsage has all commands say where their help is when a command line is wrong, and what may have been meant.
func saysUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError(c, err, flagMeant(c, err)) })
	if args := cmd.Args; args != nil {
		cmd.Args = func(c *cobra.Command, given []string) error {
			if err := args(c, given); err != nil {
				return usageError(c, err, "")
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		saysUsage(c)
	}
}

// usageError says what is wrong with a command line, what may have been meant ("": nobody knows), and where it is explained.
func usageError(cmd *cobra.Command, err error, meant string) error {
	if meant != "" {
		meant = ": did you mean " + meant + "?"
	}
	return fmt.Errorf("%w%s: see '%s --help'", err, meant, cmd.CommandPath())
}

// checkCommandName says what is wrong if a command line names a command that there is not.
func checkCommandName(root *cobra.Command, args []string) error {
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return nil // cobra adds them when it runs
	}
	cmd, rest, err := root.Find(args)
	name := ""
	for _, a := range rest {
		if !strings.HasPrefix(a, "-") {
			name = a
			break
		}
	}
	if err == nil && (cmd.Runnable() || name == "") {
		return nil
	}
	return usageError(cmd, fmt.Errorf("unknown command %q", printable.Truncated(name, 64)), meant(name, commandNames(cmd)))
}

func commandNames(root *cobra.Command) (names []string) {
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// flagMeant names the flag that may have been meant by one that there is not.
func flagMeant(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if name := meant(unknown.GetSpecifiedName(), names); name != "" {
		return "--" + name
	}
	return ""
}

// meant returns the name that is nearest to a word; "" if none is near.
func meant(word string, names []string) string {
	const longest = 64 // it is anybody's
	if word == "" || len(word) > longest {
		return ""
	}
	best, least := "", 1+len(word)/3
	for _, name := range names {
		d := distance(word, name)
		if len(word) > 2 && strings.HasPrefix(name, word) {
			d = min(d, 1)
		}
		if d <= least && (d < least || best == "") {
			best, least = name, d
		}
	}
	return best
}

// distance counts the letters that are to be put in, taken out, replaced, or exchanged with their neighbour to make a of b (the optimal
// string alignment distance).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
