// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"io"
	"sync"
)

// logTap passes on what is written to it once it is open; before, it drops it.
type logTap struct {
	to io.Writer

	mu   sync.Mutex
	open bool
}

func (l *logTap) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return len(b), nil
	}
	return l.to.Write(b)
}

// turn opens or closes the tap.
func (l *logTap) turn(open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = open
}
