// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"io"

	"github.com/nftproxy/nftproxy/printable"
)

// Report writes a line for each thing that is checked, and remembers whether one failed.
type Report struct {
	W io.Writer
	// Paint returns a state as it is written, such as in colours; nil: as it is.
	Paint  func(s State, text string) string
	Failed bool
}

// State is how a check ended.
type State uint8

// The states, from good to bad.
const (
	OK State = iota
	Warning
	Failure
)

// states are all as wide.
var states = [...]string{OK: "ok     ", Warning: "warning", Failure: "failed "}

func (r *Report) ok(what, detail string)      { r.line(OK, what, detail) }
func (r *Report) warning(what, detail string) { r.line(Warning, what, detail) }
func (r *Report) fail(what, detail string) {
	r.Failed = true
	r.line(Failure, what, detail)
}

func (r *Report) line(s State, what, detail string) {
	text := states[s]
	if r.Paint != nil {
		text = r.Paint(s, text)
	}
	fmt.Fprintf(r.W, "%s  %-32s %s\n", text, what, printable.Cut(detail, 2*printable.MaxLine)) // an error, and what to do
}

// result is ok, or failed with what to do.
func (r *Report) result(what string, err error, fine, advice string) {
	if err != nil {
		r.fail(what, printable.Error(err)+": "+advice)
		return
	}
	r.ok(what, fine)
}
