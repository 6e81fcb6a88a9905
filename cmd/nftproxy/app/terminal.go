// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/nftproxy/nftproxy/printable"
)

// isTerminal says whether somebody sees what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress says on a terminal what takes long, and returns what wipes it out.
func progress(w io.Writer, what string) (done func()) {
	if !isTerminal(w) {
		return func() {}
	}
	fmt.Fprintf(w, "nftproxy: %s ...", printable.Line(what))
	return func() { fmt.Fprint(w, "\r\x1b[K") }
}

// colours writes in colours, on a terminal and without NO_COLOR only.
type colours struct{ on bool }

func coloursFor(w io.Writer) colours {
	return colours{on: isTerminal(w) && os.Getenv("NO_COLOR") == ""}
}

func (c colours) paint(code, text string) string {
	if !c.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (c colours) red(text string) string    { return c.paint("31", text) }
func (c colours) green(text string) string  { return c.paint("32", text) }
func (c colours) yellow(text string) string { return c.paint("33", text) }
func (c colours) bold(text string) string   { return c.paint("1", text) }
