// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// oneRuleAddr is what the node with one rule translates.
var oneRuleAddr = netns.ServiceAddr(netns.IPv4, 1)

// writeOneRule gives a node the least that sends connections to an address elsewhere: `ip daddr ADDRESS dnat to BACKEND`, for
// packets from elsewhere and for its own. No proxy can do with less.
func (n network) writeOneRule(to netip.Addr) error {
	return n.Node.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "one"})
		for _, hook := range []*nftables.ChainHook{nftables.ChainHookPrerouting, nftables.ChainHookOutput} {
			chain := conn.AddChain(&nftables.Chain{Name: fmt.Sprintf("hook-%d", *hook), Table: table,
				Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: nftables.ChainPriorityNATDest})
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: oneRuleAddr.AsSlice()},
				&expr.Immediate{Register: 1, Data: to.AsSlice()},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(table.Family), RegAddrMin: 1},
			}})
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("write one rule: %w", err)
		}
		return nil
	})
}
