// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
)

// Report writes a line for each thing that is checked, and remembers whether one failed.
type Report struct {
	W io.Writer
	// Paint returns a state as it is written, such as in colours; nil: as it is.
	Paint  func(s State, text string) string
	Failed bool
	// Fixes are what may be done at once, without harm, about what was found.
	Fixes []Fix
}

// Fix is something that may be done.
type Fix struct {
	What string // in the words of a question: set net.ipv4.ip_forward to 1
	Do   func() error
}

// offer adds a sysctl that may be set; name is as sysctl(8) has it.
func (r *Report) offer(root, name, value string) {
	file := filepath.Join(root, "proc/sys", strings.ReplaceAll(name, ".", "/"))
	r.Fixes = append(r.Fixes, Fix{"set " + name + " to " + value, func() error { return os.WriteFile(file, []byte(value), 0) }})
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
