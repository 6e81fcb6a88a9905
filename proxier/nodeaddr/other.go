// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package nodeaddr

import (
	"context"
	"errors"
	"net/netip"
)

// errSystem is what Watch returns, so that nothing else is ever called.
var errSystem = errors.New("watch the node's addresses: only on Linux")

// Watcher exists so that programs compile on systems other than Linux.
type Watcher struct{}

// Watch fails.
func Watch(context.Context, func(error)) (*Watcher, error) { return nil, errSystem }

// Addrs returns nil.
func (*Watcher) Addrs() []netip.Addr { return nil }

// Primary returns none.
func (*Watcher) Primary() [2]netip.Addr { return [2]netip.Addr{} }

// InterfaceTo fails.
func (*Watcher) InterfaceTo(netip.Addr) (string, error) { return "", errSystem }

// RouteTo fails.
func RouteTo(netip.Addr) error { return errSystem }

// Changed returns nil.
func (*Watcher) Changed() <-chan struct{} { return nil }

// Close does nothing.
func (*Watcher) Close() {}
