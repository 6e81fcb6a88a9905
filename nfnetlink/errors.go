// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInterrupted says that something changed during a dump (NLM_F_DUMP_INTR), which may have missed entries
// or had some twice. It comes after the whole dump.
var ErrInterrupted = errors.New("what is listed changed meanwhile")

// ErrCutShort says that the kernel ended a dump early (EINTR). The rest is missing.
var ErrCutShort = errors.New("the kernel ended a listing before its end")

// Error is the kernel's answer to a message that it refused. errors.Is finds its Errno.
type Error struct {
	Errno unix.Errno
	// Message is what the kernel said beside it, if anything.
	Message string
	// Offset is where in the message the wrong attribute begins; 0: nowhere.
	Offset int
}

// Error returns the error's text, and what the kernel said.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Errno.Error()
	}
	return e.Errno.Error() + ": " + e.Message
}

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }

// Err reads the error in a message of type NLMSG_ERROR or NLMSG_DONE; nil is success.
func (m Message) Err() *Error {
	errno := -int32(m.Data.NativeU32()) //nolint:gosec // the kernel's error is signed
	if errno == 0 {
		return nil
	}
	e := &Error{Errno: unix.Errno(errno)} //nolint:gosec // an odd one is shown as a number
	at := 4
	if m.Type != unix.NLMSG_DONE {
		at += unix.NLMSG_HDRLEN // of the request, which is repeated so far
	}
	if m.Flags&unix.NLM_F_ACK_TLVS == 0 || len(m.Data) <= at {
		return e
	}
	for typ, v := range m.Data[at:].Attributes() {
		switch typ {
		case unix.NLMSGERR_ATTR_MSG:
			e.Message = v.Text()
		case unix.NLMSGERR_ATTR_OFFS:
			e.Offset = int(v.NativeU32())
		}
	}
	return e
}

// Tries is how often Again tries. The first tries are made at once, the others after pauses that double, up to
// longestPause.
const (
	Tries        = 12
	firstTries   = 4
	longestPause = 100 * time.Millisecond
)

// Again calls fn, which reads, until it is not interrupted any more, Tries times at most. It calls it again after
// ErrInterrupted, ErrCutShort, lost messages (ENOBUFS), and the errors that the caller names.
func Again(fn func() error, also ...error) error {
	repeat := append([]error{ErrInterrupted, ErrCutShort, unix.ENOBUFS}, also...)
	var err error
	pause := time.Millisecond
	for i := range Tries {
		if i >= firstTries {
			time.Sleep(pause)
			pause = min(2*pause, longestPause)
		}
		err = fn()
		if !slices.ContainsFunc(repeat, func(e error) bool { return errors.Is(err, e) }) {
			break
		}
	}
	return err
}
