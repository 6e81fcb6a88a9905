// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// needCapability is for requests that the kernel does not even look at.
const needCapability = "CAP_NET_ADMIN is needed in the user namespace that the network namespace belongs to"

// AnswerError is what the kernel said when it refused a transaction. A rules.Refusal wraps it.
type AnswerError struct {
	// Errno is the first error that the kernel gave.
	Errno unix.Errno
	// Message is what the kernel said beside it, if anything.
	Message string
	// Whole says that it is about no single object.
	Whole bool
}

// Error gives the error and what the kernel said.
func (e *AnswerError) Error() string {
	text := fmt.Sprintf("%v (%s)", e.Errno, unix.ErrnoName(e.Errno))
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Errno == unix.EPERM && e.Whole {
		text += ": " + needCapability
	}
	return text
}

// Unwrap returns the errno.
func (e *AnswerError) Unwrap() error { return e.Errno }

// answer is what the kernel answered to a batch.
type answer struct {
	acked   bool
	said    AnswerError // without an Errno: it refused nothing
	objects []rules.Object
}

// refusal returns it as an error; nil if the kernel refused nothing. Nothing of the batch was carried out then.
func (a *answer) refusal() error {
	if a.said.Errno == 0 {
		return nil
	}
	a.said.Whole = len(a.objects) == 0
	return &rules.Refusal{Objects: a.objects, Untouched: true, Err: &a.said}
}
