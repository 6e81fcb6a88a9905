// SPDX-License-Identifier: Apache-2.0

package conntrack

import "net/netip"

// index finds the target of a flow without walking all targets.
type index map[Frontend]*backends

// backends is a target prepared for many flows.
type backends struct {
	endpoints  map[netip.AddrPort]struct{}
	has4, has6 bool
	local      map[netip.Addr]struct{} // nil if not known
}

// newIndex prepares targets. Of several for one frontend, the last counts.
func newIndex(targets []Target) index {
	i := make(index, len(targets))
	for _, t := range targets {
		i[t.Frontend] = newBackends(t)
	}
	return i
}

func newBackends(t Target) *backends {
	b := &backends{endpoints: make(map[netip.AddrPort]struct{}, len(t.Endpoints))}
	for _, e := range t.Endpoints {
		b.endpoints[e] = struct{}{}
		b.has4 = b.has4 || e.Addr().Is4()
		b.has6 = b.has6 || e.Addr().Is6()
	}
	for _, a := range t.Local {
		if b.local == nil {
			b.local = make(map[netip.Addr]struct{}, len(t.Local))
		}
		b.local[a] = struct{}{}
	}
	return b
}

func (b *backends) hasFamily(a netip.Addr) bool {
	if a.Is4() {
		return b.has4
	}
	return b.has6
}

// stands says whether an any-address frontend is the one that a flow was sent to.
func (b *backends) stands(f Flow) bool {
	if b.local == nil {
		return f.forwarded()
	}
	_, ok := b.local[f.Orig.Dst.Addr()]
	return ok
}

// stale says whether a flow is stale for the target that it belongs to: the one
// with its very address if there is one, as in the rules.
func (i index) stale(f Flow) bool {
	dst := f.Orig.Dst
	front := Frontend{dst.Addr(), f.Proto, dst.Port()}
	if b, ok := i[front]; ok {
		return b.stale(f)
	}
	for _, front.Addr = range [...]netip.Addr{unspecified(dst.Addr()), {}} {
		if b, ok := i[front]; ok && b.stands(f) {
			return b.stale(f)
		}
	}
	return false
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
