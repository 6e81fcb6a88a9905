// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package kernel

import (
	"errors"

	"github.com/nftproxy/nftproxy/rules"
)

// errSystem is what Open returns, so that nothing else is ever called.
var errSystem = errors.New("open nftables: only Linux has it: take --manifests or a cluster as source")

// Kernel exists so that programs compile on systems other than Linux, where it
// cannot be opened.
type Kernel struct{}

// Open fails.
func Open() (*Kernel, error) { return nil, errSystem }

// Close does nothing.
func (*Kernel) Close() error { return nil }

// Read fails.
func (*Kernel) Read(string) (rules.State, error) { return rules.State{}, errSystem }

// ReadListing fails.
func (*Kernel) ReadListing(string) (rules.State, error) { return rules.State{}, errSystem }

// Apply fails.
func (*Kernel) Apply(rules.Tx) error { return errSystem }

// Remove fails.
func (*Kernel) Remove(string) (int, error) { return 0, errSystem }

// AffinityUsage is how full a map of clients is.
type AffinityUsage struct {
	Family  rules.Family
	Map     string // its name
	Clients int
	Size    uint32
}

// AffinityUsage fails.
func (*Kernel) AffinityUsage(string) ([]AffinityUsage, error) { return nil, errSystem }

// Watch tells of changes.
type Watch struct{}

// Watch fails.
func (*Kernel) Watch(string) (*Watch, error) { return nil, errSystem }

// Join fails.
func (*Watch) Join() error { return errSystem }

// Changed returns nil.
func (*Watch) Changed() <-chan struct{} { return nil }

// Close does nothing.
func (*Watch) Close() error { return nil }

// KubeProxy is what kube-proxy left.
type KubeProxy struct{}

// Found returns nil.
func (KubeProxy) Found() []string { return nil }

// Removed returns nil.
func (KubeProxy) Removed() []string { return nil }

// FindKubeProxy fails.
func (*Kernel) FindKubeProxy() (KubeProxy, error) { return KubeProxy{}, errSystem }

// RemoveKubeProxy fails.
func (*Kernel) RemoveKubeProxy() (KubeProxy, error) { return KubeProxy{}, errSystem }
