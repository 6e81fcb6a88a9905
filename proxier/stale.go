// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// staleFrontends returns the frontends whose flows may be stale: those that are new, as
// connections may have been dialled before; and the old ones, whose flows outlive endpoints that
// no longer get new ones. Those of TCP are left out where endpoints only came: a node has many
// connections, and none of them is waiting for one that has gone.
func staleFrontends(f rules.Family, before, after rules.Objects) []rules.Frontend {
	was := map[rules.Frontend]bool{}
	var out []rules.Frontend
	old := before.Frontends(f) // all of one protocol
	grew := len(old) > 0 && old[0].Protocol == rules.TCP && onlyGrew(before.Backends(), after.Backends())
	for _, fr := range old {
		was[fr] = true
		if !grew {
			out = append(out, fr)
		}
	}
	for _, fr := range after.Frontends(f) {
		if !was[fr] {
			out = append(out, fr)
		}
	}
	return out
}

// onlyGrew says whether there are more endpoints and none has left. Both lists are sorted. Where they
// are equal, one may have gone that got no new connections before.
func onlyGrew(before, after []netip.AddrPort) bool {
	left := slices.ContainsFunc(before, func(e netip.AddrPort) bool {
		_, found := slices.BinarySearchFunc(after, e, netip.AddrPort.Compare)
		return !found
	})
	return !left && len(after) > len(before)
}

// removed returns the frontends and the addresses for NodePorts that a transaction takes away.
func removed(tx rules.Tx) (frontends []rules.Frontend, addrs []netip.Addr) {
	tx.EachRemoved(func(f rules.Family, set rules.SetID, list []rules.Element) {
		for _, e := range list {
			switch {
			case set.Kind.Serves():
				frontends = append(frontends, e.Key.Frontend(f))
			case set.Kind == rules.NodePortIPs:
				addrs = append(addrs, e.Key.Addr)
			}
		}
	})
	return frontends, addrs
}

// repairedFrontends returns the frontends where a repair wrote which endpoint serves them; all says that it wrote something of which
// that cannot be told, such as rules.
func repairedFrontends(tx rules.Tx) (frontends []rules.Frontend, all bool) {
	for _, op := range tx.Ops() {
		switch op.Kind {
		case rules.AddElements, rules.FillSet, rules.ReplaceElements, rules.DeleteElements:
		default:
			return nil, true
		}
		if op.Set.Kind.Neutral() {
			continue
		}
		if !op.Set.Kind.Serves() {
			return nil, true
		}
		for _, e := range op.Elements {
			frontends = append(frontends, e.Key.Frontend(op.Family))
		}
	}
	return frontends, false
}

func byFamily(addrs []netip.Addr) (out [2][]netip.Addr) {
	for _, a := range addrs {
		f := rules.FamilyOf(a)
		out[f] = append(out[f], a)
	}
	return out
}

// without returns the addresses that are not among others, which are sorted.
func without(addrs, others []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		_, found := slices.BinarySearchFunc(others, a, netip.Addr.Compare)
		return found
	})
}
