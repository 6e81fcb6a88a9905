// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package trust

import "errors"

// Process exists so that programs compile on systems other than Linux.
type Process struct {
	ID        string
	Args      []string
	Directory string
	Doubt     string
}

// Shares fails.
func (*Process) Shares(string) error { return errSystem }

// Processes exists for the same reason.
type Processes struct{ Root string }

// Find finds nothing.
func (Processes) Find(string) ([]Process, []string) { return nil, nil }

var errSystem = errors.New("only on Linux it can be told who may change a file")

// File fails.
func File(string) error { return errSystem }

// Directory fails.
func Directory(string) error { return errSystem }

// Here is false.
func (*Process) Here() bool { return false }
