// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// BaseChain is a chain at a hook, anybody's.
type BaseChain struct {
	Family      string // ip, ip6 or inet
	Table, Name string
	Type        string // such as nat or filter
	Hook        rules.HookNumber
	Priority    int32
}

// BaseChains returns all base chains for IPv4 and IPv6.
func (k *Kernel) BaseChains() ([]BaseChain, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []BaseChain
	for _, f := range []struct {
		number uint8
		name   string
	}{{unix.NFPROTO_IPV4, "ip"}, {unix.NFPROTO_IPV6, "ip6"}, {unix.NFPROTO_INET, "inet"}} {
		var list []BaseChain
		err := again(func() error {
			list = nil
			return k.request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, f.number, nil, func(v nfnetlink.Data) {
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
					case unix.NFTA_CHAIN_HOOK:
						hook = parseHook(v)
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
