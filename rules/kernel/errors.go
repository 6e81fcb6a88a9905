// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// AnswerError is what the kernel said when it refused a transaction. A rules.Refusal wraps it.
type AnswerError struct {
	// Errno is the first error that the kernel gave.
	Errno unix.Errno
	// Message is what the kernel said beside it, if anything.
	Message string
	// Whole says that it is about no single object.
	Whole bool
	// Held says who owns the table, where that is why.
	Held *HeldError
}

// Error gives the error and what the kernel said.
func (e *AnswerError) Error() string {
	text := fmt.Sprintf("%v (%s)", e.Errno, unix.ErrnoName(e.Errno))
	if e.Message != "" {
		text += ": " + e.Message
	}
	switch {
	case e.Errno == unix.EPERM && e.Whole:
		text += ": " + wire.NeedCapability
	case e.Held != nil:
		text += ": " + e.Held.Error()
	}
	return text
}

// Unwrap returns the errno, and who owns the table.
func (e *AnswerError) Unwrap() []error {
	if e.Held != nil {
		return []error{e.Errno, e.Held}
	}
	return []error{e.Errno}
}

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

// note adds the error about a message of a batch to the answer.
func (a *answer) note(b *wire.Batch, message int, e *nfnetlink.Error) {
	if a.said.Errno == 0 {
		a.said.Errno = e.Errno
	}
	if e.Message != "" {
		a.said.Message = e.Message
	}
	if o, ok := b.Object(message, e.Offset); ok {
		a.objects = append(a.objects, o)
	}
}
