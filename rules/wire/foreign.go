// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
)

// familyNames are nft's names of tables' families.
var familyNames = map[uint8]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_ARP: "arp", unix.NFPROTO_NETDEV: "netdev",
	unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_IPV6: "ip6",
}

// GetRule asks for a rule of anybody's by its handle. The family is by nft's name.
func GetRule(family, table, chain string, handle uint64) (*nfnetlink.Builder, error) {
	b, err := rulesOf(family, table, chain, 0)
	if err == nil {
		b.U64(unix.NFTA_RULE_HANDLE, handle)
	}
	return b, err
}

// GetRulesOf asks for the rules of anybody's chain. The family is by nft's name.
func GetRulesOf(family, table, chain string) (*nfnetlink.Builder, error) {
	return rulesOf(family, table, chain, unix.NLM_F_DUMP)
}

func rulesOf(family, table, chain string, flags uint16) (*nfnetlink.Builder, error) {
	for number, name := range familyNames {
		if name == family {
			b := get(unix.NFT_MSG_GETRULE, flags, number)
			b.Str(unix.NFTA_RULE_TABLE, table)
			b.Str(unix.NFTA_RULE_CHAIN, chain)
			return b, nil
		}
	}
	return nil, fmt.Errorf("no family has the name %q", family)
}

// HasExpression says whether a rule has an expression of a name.
func HasExpression(rule nfnetlink.Data, name string) bool {
	for has := range ruleExpressions(rule) {
		if has == name {
			return true
		}
	}
	return false
}

// ruleExpressions returns a rule's expressions.
func ruleExpressions(rule nfnetlink.Data) iter.Seq2[string, nfnetlink.Data] {
	for typ, v := range rule.Attributes() {
		if typ == unix.NFTA_RULE_EXPRESSIONS {
			return eachExpression(v)
		}
	}
	return func(func(string, nfnetlink.Data) bool) {}
}

// AcceptsRewritten says whether a rule accepts all packets of connections whose destination was rewritten, and matches nothing
// else: 'ct status dnat accept', with or without a counter.
func AcceptsRewritten(rule nfnetlink.Data) bool {
	const want, verdictAccept, ctStatusDNAT = "ct bitwise cmp immediate ", 1, 1 << 5
	shape := ""
	for name, data := range ruleExpressions(rule) {
		if name == "counter" {
			continue
		}
		shape += name + " "
		is := true
		for typ, v := range data.Attributes() {
			switch {
			case name == "ct" && typ == unix.NFTA_CT_KEY:
				is = v.U32() == uint32(expr.CtKeySTATUS)
			case name == "bitwise" && typ == unix.NFTA_BITWISE_MASK:
				is = string(nested(v, unix.NFTA_DATA_VALUE)) == string(binary.NativeEndian.AppendUint32(nil, ctStatusDNAT))
			case name == "cmp" && typ == unix.NFTA_CMP_OP:
				is = v.U32() == unix.NFT_CMP_NEQ
			case name == "immediate" && typ == unix.NFTA_IMMEDIATE_DATA:
				is = nested(nested(v, unix.NFTA_DATA_VERDICT), unix.NFTA_VERDICT_CODE).U32() == verdictAccept
			}
			if !is {
				return false
			}
		}
	}
	return shape == want
}

// nested returns an attribute inside of another; nothing if there is none.
func nested(v nfnetlink.Data, want uint16) nfnetlink.Data {
	for typ, inner := range v.Attributes() {
		if typ == want {
			return inner
		}
	}
	return nil
}
