// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/proxier"
)

// pins returns the clients that the kernel remembers for a port: of those that were asked for, or else all. Clients of endpoints that
// are gone are not among them: the kernel remembers them without effect.
func (w *World) pins(p *proxier.Port, clients []Client) []Pin {
	var out []Pin
	if w.Have == nil || w.Have.Tables[p.Family] == nil {
		return nil
	}
	t := w.Have.Tables[p.Family]
	for _, m := range p.Objects.Affinity {
		for k, v := range t.Sets[m.Set] {
			asked := slices.ContainsFunc(clients, func(c Client) bool { return c.addr(p.Family) == k.Addr })
			if len(clients) > 0 && !asked || !t.Stays(m.Set, v.To) {
				continue
			}
			out = append(out, Pin{Client: k.Addr.String(), Endpoint: v.To.String(), Seconds: t.Affinity[m.Set].Clients[k].Expires / 1000})
		}
	}
	slices.SortFunc(out, func(a, b Pin) int {
		return netip.MustParseAddr(a.Client).Compare(netip.MustParseAddr(b.Client))
	})
	return out
}
