// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"

	"github.com/nftproxy/nftproxy/printable"
)

// FileError is a fault in a manifest file.
type FileError struct {
	// File is the name of the file within its directory.
	File string
	// Line is counted from 1; 0 if the fault has no line.
	Line int
	// Reason says what is wrong.
	Reason string
}

// Error gives file, line and reason: "web.yaml:12: unknown field "spec.prots"". It is printable, whatever the file's name is
// and whatever it holds.
func (e *FileError) Error() string {
	file, reason := printable.Cut(e.File, printable.MaxWord), printable.Line(e.Reason)
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", file, reason)
	}
	return fmt.Sprintf("%s:%d: %s", file, e.Line, reason)
}
