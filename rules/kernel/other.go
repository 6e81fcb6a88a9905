// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package kernel

import (
	"context"
	"errors"
	"net/netip"

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

// Scan fails.
func (*Kernel) Scan(string, []rules.Thing, rules.Parts) error { return errSystem }

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

// Connections is how many new connections a frontend has had.
type Connections struct {
	Family rules.Family
	Set    rules.SetID
	rules.Element
	rules.Counter
}

// Connections fails.
func (*Kernel) Connections(string) ([]Connections, error) { return nil, errSystem }

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

// Presence is what is there of a table.
type Presence struct{ Table, Forwards bool }

// Presence fails.
func (*Kernel) Presence(string) ([2]Presence, error) { return [2]Presence{}, errSystem }

// KubeProxy is what kube-proxy left.
type KubeProxy struct{}

// Serves returns false.
func (KubeProxy) Serves(rules.Family) bool { return false }

// Found returns nil.
func (KubeProxy) Found() []string { return nil }

// Removed returns nil.
func (KubeProxy) Removed() []string { return nil }

// FindKubeProxy fails.
func (*Kernel) FindKubeProxy() (KubeProxy, error) { return KubeProxy{}, errSystem }

// RemoveKubeProxy fails.
func (*Kernel) RemoveKubeProxy() (KubeProxy, error) { return KubeProxy{}, errSystem }

// TraceFilter chooses what is traced.
type TraceFilter struct {
	From, To netip.Prefix
	ToPort   uint16
	Protocol rules.Protocol
}

// TraceEvent is what a rule did with a packet.
type TraceEvent struct {
	ID           uint32
	Table, Chain string
	Dropped      bool
	Src, Dst     netip.AddrPort
	Protocol     rules.Protocol
}

// Trace is tracing that goes on.
type Trace struct{}

// Trace fails.
func (*Kernel) Trace(TraceFilter) (*Trace, error) { return nil, errSystem }

// Next fails.
func (*Trace) Next(context.Context, func(TraceEvent), func()) error { return errSystem }

// Close does nothing.
func (*Trace) Close() error { return nil }

// BaseChain is a chain at a hook.
type BaseChain struct {
	Family      string
	Table, Name string
	Type        string
	Hook        rules.HookNumber
	Priority    int32
}

// BaseChains fails.
func (*Kernel) BaseChains() ([]BaseChain, error) { return nil, errSystem }
