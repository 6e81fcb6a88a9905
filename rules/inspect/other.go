// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package inspect

import (
	"context"
	"errors"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/foreign"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// errSystem is what Open returns, so that nothing else is ever called.
var errSystem = errors.New("open nftables: only Linux has it")

// Inspector exists so that programs compile on systems other than Linux, where it
// cannot be opened.
type Inspector struct{}

// Open fails.
func Open() (*Inspector, error) { return nil, errSystem }

// Close does nothing.
func (*Inspector) Close() error { return nil }

// AffinityUsage fails.
func (*Inspector) AffinityUsage(string) ([]AffinityUsage, error) { return nil, errSystem }

// Connections fails.
func (*Inspector) Connections(string) ([]Connections, error) { return nil, errSystem }

// Clients fails.
func (*Inspector) Clients(string, func(rules.ServicePortName) bool, func(Client)) error {
	return errSystem
}

// Presence fails.
func (*Inspector) Presence(string) ([2]Presence, error) { return [2]Presence{}, errSystem }

// BaseChains fails.
func (*Inspector) BaseChains() ([]BaseChain, error) { return nil, errSystem }

// FindKubeProxy fails.
func (*Inspector) FindKubeProxy() (KubeProxy, error) { return KubeProxy{}, errSystem }

// KubeProxyRules fails.
func (*Inspector) KubeProxyRules() ([]foreign.Dump, error) { return nil, errSystem }

// Filled fails.
func (*Inspector) Filled(string, rules.Family, rules.SetKind, func(rules.Element, rules.Lifetime)) error {
	return errSystem
}

// Lookup fails.
func (*Inspector) Lookup(string, rules.Family, rules.SetID, rules.Key) (rules.Value, bool, error) {
	return rules.Value{}, false, errSystem
}

// Tenures fails.
func (*Inspector) Tenures(string) ([2]*rules.Tenure, error) { return [2]*rules.Tenure{}, errSystem }

// AcceptsRewritten fails.
func (*Inspector) AcceptsRewritten(*BaseChain) (bool, error) { return false, errSystem }

// Rejects fails.
func (*Inspector) Rejects(string, string, string, uint64) (bool, error) { return false, errSystem }

// KubeProxy is what kube-proxy left.
type KubeProxy struct{}

// Serves returns false.
func (KubeProxy) Serves(rules.Family) bool { return false }

// Found returns nil.
func (KubeProxy) Found() []string { return nil }

// Removed returns nil.
func (KubeProxy) Removed() []string { return nil }

// Removal returns nil.
func (KubeProxy) Removal() *wire.Batch { return nil }

// Trace is tracing that goes on.
type Trace struct{}

// StartTrace fails.
func StartTrace(wire.TraceFilter) (*Trace, error) { return nil, errSystem }

// Next fails.
func (*Trace) Next(context.Context, func(wire.TraceEvent), func(), func()) error { return errSystem }

// Close does nothing.
func (*Trace) Close() error { return nil }
