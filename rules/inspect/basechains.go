// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// AcceptsRewritten says whether a rule of a chain accepts all connections whose destination was rewritten, as those to Services
// are. What rules before it drop is not looked at.
func (i *Inspector) AcceptsRewritten(c *BaseChain) (yes bool, err error) {
	request, err := wire.GetRulesOf(c.Family, c.Table, c.Name)
	if err != nil {
		return false, err
	}
	err = i.ask(request, func(rule nfnetlink.Data) { yes = yes || wire.AcceptsRewritten(rule) })
	return yes, err
}

const nfDrop = 0 // NF_DROP

// BaseChains returns all base chains for IPv4 and IPv6.
func (i *Inspector) BaseChains() ([]BaseChain, error) {
	var out []BaseChain
	for _, f := range []struct {
		number uint8
		name   string
	}{{unix.NFPROTO_IPV4, "ip"}, {unix.NFPROTO_IPV6, "ip6"}, {unix.NFPROTO_INET, "inet"}} {
		var list []BaseChain
		err := nfnetlink.Again(func() error {
			list = nil
			return i.ask(wire.GetChains(f.number), func(v nfnetlink.Data) {
				c := BaseChain{Family: f.name}
				var hook *rules.Hook
				for typ, v := range v.Attributes() {
					switch typ {
					case unix.NFTA_CHAIN_TABLE:
						c.Table = v.Text()
					case unix.NFTA_CHAIN_NAME:
						c.Name = v.Text()
					case unix.NFTA_CHAIN_TYPE:
						c.Type = v.Text()
					case unix.NFTA_CHAIN_POLICY:
						c.Drops = v.U32() == nfDrop
					case unix.NFTA_CHAIN_HOOK:
						hook = wire.ParseHook(v)
					}
				}
				if hook != nil {
					c.Hook, c.Priority = hook.Number, hook.Priority
					list = append(list, c)
				}
			})
		})
		if err != nil {
			return nil, fmt.Errorf("list chains (%s): %w", f.name, err)
		}
		out = append(out, list...)
	}
	return out, nil
}
