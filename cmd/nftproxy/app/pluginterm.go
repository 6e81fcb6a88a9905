// SPDX-License-Identifier: Apache-2.0

package app

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/plugin"
)

// screen is this terminal, as a command that runs elsewhere has it.
type screen struct{ in, out *os.File }

// screenOf returns the terminal for a command that is a program with keys on one; nil: it is not, or there is none.
func screenOf(cmd *cobra.Command) *screen {
	in, isFile := cmd.InOrStdin().(*os.File)
	out, isFile2 := cmd.OutOrStdout().(*os.File)
	if cmd.Name() != "top" || changed(cmd, "once") || changed(cmd, "plain") || changed(cmd, "output") || !isFile || !isFile2 || !isTerminal(in) || !isTerminal(out) {
		return nil
	}
	return &screen{in, out}
}

// run gives the terminal to a command, and takes it back.
func (s *screen) run(do func(plugin.Streams) (int, error)) (code int, err error) {
	before, err := term.MakeRaw(int(s.in.Fd()))
	if err != nil {
		return 0, err
	}
	defer func() { _ = term.Restore(int(s.in.Fd()), before) }()
	done := make(chan struct{})
	defer close(done)
	return do(plugin.Streams{In: s.in, Out: s.out, Sizes: &sizes{file: s.out, done: done}})
}

// sizes tells the size of a terminal when it has changed. Not all systems tell: it is looked at.
type sizes struct {
	file *os.File
	done <-chan struct{}
	last remotecommand.TerminalSize
}

// Next implements remotecommand.TerminalSizeQueue.
func (s *sizes) Next() *remotecommand.TerminalSize {
	const pace = 300 * time.Millisecond
	for {
		width, height, err := term.GetSize(int(s.file.Fd()))
		now := remotecommand.TerminalSize{Width: uint16(width), Height: uint16(height)} //nolint:gosec // so are these
		if err == nil && now != s.last {
			s.last = now
			return &now
		}
		select {
		case <-s.done:
			return nil
		case <-time.After(pace):
		}
	}
}
