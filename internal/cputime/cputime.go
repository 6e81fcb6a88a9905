// SPDX-License-Identifier: Apache-2.0

// Package cputime measures CPU time: what a clock on the wall says depends on who else has the processors.
package cputime

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Of runs a function and returns the CPU time that its goroutine took for it, the kernel's included. That of goroutines which it
// starts is not in it.
func Of(fn func()) time.Duration {
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	start := thread()
	fn()
	return thread() - start
}

// thread returns the CPU time that the calling thread has taken.
func thread() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // every kernel has it
	return time.Duration(t.Nano())
}
