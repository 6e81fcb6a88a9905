// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package lock

import "errors"

// errSystem is what New returns, so that nothing else is ever called.
var errSystem = errors.New("make a lock: only Linux has nftables")

// Lock exists so that programs compile on systems other than Linux.
type Lock struct{}

// New fails.
func New(Config) (*Lock, error) { return nil, errSystem }

// Start fails.
func (*Lock) Start() error { return errSystem }

// Held returns nil.
func (*Lock) Held() <-chan struct{} { return nil }

// Holds returns false.
func (*Lock) Holds() bool { return false }

// Lost returns nil.
func (*Lock) Lost() <-chan error { return nil }

// Self returns nothing.
func (*Lock) Self() Process { return Process{} }

// Close does nothing.
func (*Lock) Close() error { return nil }

// Look fails.
func Look(string) (Status, error) { return Status{}, errSystem }

// Ask fails.
func Ask(string) (Process, error) { return Process{}, errSystem }
