// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// needCapability is for requests that the kernel does not even look at.
const needCapability = "CAP_NET_ADMIN is needed in the user namespace that the network namespace belongs to"

// RefusedError says that the kernel refused a transaction. Nothing of the batch
// that holds Objects was carried out; earlier batches of a transaction that had
// to be cut were.
type RefusedError struct {
	// Errno is the first error that the kernel gave.
	Errno unix.Errno
	// Message is what the kernel said beside it, if anything.
	Message string
	// Objects are what the kernel refused. It is empty when the kernel refused
	// the transaction as a whole.
	Objects []rules.Object
	// Cut says that the transaction was cut, and earlier batches of it carried out.
	Cut bool
}

// Error names the objects (three at most), the error and what the kernel said.
func (e *RefusedError) Error() string {
	var b strings.Builder
	b.WriteString("kernel refused ")
	for i, o := range e.Objects {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d more", len(e.Objects)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString("to " + o.String())
	}
	if len(e.Objects) == 0 {
		b.WriteString("the transaction")
	}
	fmt.Fprintf(&b, ": %v (%s)", e.Errno, unix.ErrnoName(e.Errno))
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Errno == unix.EPERM && len(e.Objects) == 0 {
		b.WriteString(": " + needCapability)
	}
	return b.String()
}

// Unwrap returns the errno.
func (e *RefusedError) Unwrap() error { return e.Errno }

// RefusedObjects returns what the kernel refused.
func (e *RefusedError) RefusedObjects() []rules.Object { return e.Objects }

// Untouched says that the kernel holds what it held before.
func (e *RefusedError) Untouched() bool { return !e.Cut }
