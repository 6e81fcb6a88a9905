// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package conntrack

import (
	"context"
	"errors"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

var errSystem = errors.New("open conntrack: only Linux has it")

// Conn exists so that programs compile on systems other than Linux, where it cannot
// be opened.
type Conn struct{}

// Open fails.
func Open() (*Conn, error) { return nil, errSystem }

// Close does nothing.
func (*Conn) Close() error { return nil }

// Clean fails.
func (*Conn) Clean(context.Context, []Target, func() []Target) (Deleted, error) {
	return Deleted{}, errSystem
}

// Get fails.
func (*Conn) Get(context.Context, rules.Protocol, Tuple) (Flow, bool, error) {
	return Flow{}, false, errSystem
}

// WatchNew fails.
func WatchNew(context.Context, func(Flow), func()) error { return errSystem }

// CountOpen fails.
func (*Conn) CountOpen(context.Context, map[rules.Backend]uint32) (time.Duration, error) {
	return 0, errSystem
}

// EachOpen fails.
func (*Conn) EachOpen(context.Context, func(Flow)) error { return errSystem }

// Usage fails.
func (*Conn) Usage(context.Context) (Usage, error) { return Usage{}, errSystem }

// DeleteUnanswered fails.
func (*Conn) DeleteUnanswered(context.Context, []rules.Backend) (int, error) { return 0, errSystem }

// Delete fails.
func (*Conn) Delete(context.Context, []Flow) (int, error) { return 0, errSystem }
