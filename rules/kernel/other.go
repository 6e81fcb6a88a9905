// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package kernel

import (
	"context"
	"errors"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// errSystem is what Open returns, so that nothing else is ever called.
var errSystem = errors.New("open nftables: only Linux has it: take --manifests or a cluster as source")

// HeldError says that another process owns a table.
type HeldError struct{}

// Error says so.
func (*HeldError) Error() string { return errSystem.Error() }

// Kernel exists so that programs compile on systems other than Linux, where it
// cannot be opened.
type Kernel struct{}

// Open fails.
func Open() (*Kernel, error) { return nil, errSystem }

// Close does nothing.
func (*Kernel) Close() error { return nil }

// Read fails.
func (*Kernel) Read(string) (rules.State, error) { return rules.State{}, errSystem }

// Scan fails.
func (*Kernel) Scan(string, []rules.Thing, rules.Parts) error { return errSystem }

// ReadListing fails.
func (*Kernel) ReadListing(string) (rules.State, error) { return rules.State{}, errSystem }

// Apply fails.
func (*Kernel) Apply(rules.Tx) error { return errSystem }

// CanOwn fails.
func (*Kernel) CanOwn() (bool, error) { return false, errSystem }

// Own fails.
func (*Kernel) Own(context.Context, string) error { return errSystem }

// Remove fails.
func (*Kernel) Remove(string) (int, error) { return 0, errSystem }

// Commit fails.
func (*Kernel) Commit(*wire.Batch) error { return errSystem }

// Watch tells of changes.
type Watch struct{}

// Watch fails.
func (*Kernel) Watch(string) (*Watch, error) { return nil, errSystem }

// Join fails.
func (*Watch) Join() error { return errSystem }

// Changed returns nil.
func (*Watch) Changed() <-chan struct{} { return nil }

// Touched returns nothing.
func (*Watch) Touched() rules.Touched { return rules.Touched{} }

// Close does nothing.
func (*Watch) Close() error { return nil }
