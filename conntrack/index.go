// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// index finds the target of a flow without walking all targets.
type index map[rules.Frontend]*backends

// backends is a target prepared for many flows, once there is a first one.
type backends struct {
	Target
	endpoints  map[netip.AddrPort]struct{} // nil before it is prepared
	has4, has6 bool
}

// newIndex takes targets in. Of several for one frontend, the last counts.
func newIndex(targets []Target) index {
	i := make(index, len(targets))
	for _, t := range targets {
		i[t.Frontend] = &backends{Target: t}
	}
	return i
}

func (b *backends) prepare() {
	if b.endpoints != nil {
		return
	}
	b.endpoints = make(map[netip.AddrPort]struct{}, len(b.Endpoints))
	for _, e := range b.Endpoints {
		b.endpoints[e] = struct{}{}
		b.has4 = b.has4 || e.Addr().Is4()
		b.has6 = b.has6 || e.Addr().Is6()
	}
}

func (b *backends) has(endpoint netip.AddrPort) bool {
	b.prepare()
	_, ok := b.endpoints[endpoint]
	return ok
}

func (b *backends) hasFamily(a netip.Addr) bool {
	b.prepare()
	if a.Is4() {
		return b.has4
	}
	return b.has6
}

// stands says whether an any-address frontend is the one that a flow was sent to.
func (b *backends) stands(f Flow) bool {
	dst := f.Orig.Dst.Addr()
	if contains(b.Local, dst) {
		return true
	}
	known := len(b.Local) > 0 || len(b.Left) > 0 || b.LinkLocal
	return f.forwarded() && (!known || b.LinkLocal && dst.IsLinkLocalUnicast())
}

// stale says whether a flow is stale for the target that it belongs to: the one
// with its very address if there is one, as in the rules.
func (i index) stale(f Flow) bool {
	dst := f.Orig.Dst
	front := rules.FrontendAt(dst, f.Protocol)
	if b, ok := i[front]; ok {
		return b.stale(f)
	}
	for _, front.Addr = range [...]netip.Addr{rules.FamilyOf(dst.Addr()).Unspecified(), {}} {
		b, ok := i[front]
		switch {
		case !ok:
		case b.stands(f):
			return b.stale(f)
		case b.left(f):
			return true
		}
	}
	return false
}

// contains says whether sorted addresses have one among them.
func contains(sorted []netip.Addr, a netip.Addr) bool {
	_, found := slices.BinarySearchFunc(sorted, a, netip.Addr.Compare)
	return found
}
