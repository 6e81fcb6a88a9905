// SPDX-License-Identifier: Apache-2.0

package app

import (
	"os"
	"sync"
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
	of := &sizes{file: s.out, done: make(chan struct{})}
	defer of.end()
	return do(plugin.Streams{In: s.in, Out: s.out, Sizes: of})
}

// sizes tells the size of a terminal when it has changed. Not all systems tell: it is looked at.
type sizes struct {
	mu   sync.Mutex // holds the file open
	file *os.File
	done chan struct{}
	last remotecommand.TerminalSize
}

// end leaves the file alone from now on.
func (s *sizes) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.done)
}

// Next implements remotecommand.TerminalSizeQueue.
func (s *sizes) Next() *remotecommand.TerminalSize {
	const pace = 300 * time.Millisecond
	for {
		if now, ok := s.size(); ok && now != s.last {
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

// size returns the terminal's size; false: it is not known, or it does not matter any more.
func (s *sizes) size() (remotecommand.TerminalSize, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return remotecommand.TerminalSize{}, false
	default:
	}
	width, height, err := term.GetSize(int(s.file.Fd()))
	return remotecommand.TerminalSize{Width: uint16(width), Height: uint16(height)}, err == nil //nolint:gosec // so are these
}
