// SPDX-License-Identifier: Apache-2.0

package source

import "fmt"

// FileError is a fault in a manifest file.
type FileError struct {
	// File is the name of the file within its directory.
	File string
	// Line is counted from 1; 0 if the fault has no line.
	Line int
	// Reason says what is wrong.
	Reason string
}

// Error gives file, line and reason: "web.yaml:12: unknown field "spec.prots"".
func (e *FileError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
}
