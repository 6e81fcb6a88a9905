// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"iter"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// ForeignHook stands for a hook whose chain is of another type, or has another
// policy, than all of ours.
const ForeignHook = ^rules.HookNumber(0)

// ParseTable reads a table's own attributes, and how many chains, sets and others it has.
func ParseTable(v nfnetlink.Data) (t *rules.Table, use int) {
	t = rules.NewTable()
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_TABLE_FLAGS:
			flags := v.U32()
			t.Dormant = flags&unix.NFT_TABLE_F_DORMANT != 0
			t.Tenure.Owner, t.Tenure.Persist = flags&tableOwner != 0, flags&tablePersist != 0
		case tableAttrOwner:
			t.Tenure.Port = v.U32()
		case unix.NFTA_TABLE_USE:
			use = int(v.U32())
		case tableAttrUserdata:
			if c, ok := comment(v, udataTableComment); ok {
				t.Odd = append(t.Odd, rules.Oddity{What: c})
			}
		}
	}
	return t, use
}

// ParseChain returns a chain without its rules, the name of its table, and what is odd about it.
func ParseChain(v nfnetlink.Data) (table string, c rules.Chain, odd []rules.Oddity) {
	var kind string
	var policy uint32
	strange := func(what string) { odd = append(odd, rules.Oddity{What: what}) }
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table = v.Text()
		case unix.NFTA_CHAIN_NAME:
			c.Name = v.Text()
		case unix.NFTA_CHAIN_HOOK:
			c.Hook = ParseHook(v)
		case unix.NFTA_CHAIN_TYPE:
			kind = v.Text()
		case unix.NFTA_CHAIN_POLICY:
			policy = v.U32()
		case unix.NFTA_CHAIN_COUNTERS:
			strange("a counter")
		case chainAttrFlags:
			if v.U32()&^chainIsBase != 0 {
				strange("flags")
			}
		case chainAttrUserdata:
			if c, ok := comment(v, udataChainComment); ok {
				strange(c)
			}
		}
	}
	if c.Hook != nil {
		if c.Hook.Filter = kind == (rules.Hook{Filter: true}).Type(); kind != c.Hook.Type() || policy != policyAccept {
			c.Hook.Number = ForeignHook
		}
	}
	for i := range odd {
		odd[i].Chain = c.Name
	}
	return table, c, odd
}

// ParseHook reads the hook of a base chain.
func ParseHook(v nfnetlink.Data) *rules.Hook {
	h := &rules.Hook{}
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_HOOK_HOOKNUM:
			h.Number = rules.HookNumber(v.U32())
		case unix.NFTA_HOOK_PRIORITY:
			h.Priority = int32(v.U32()) //nolint:gosec // the attribute has the bits
		case hookAttrDev, hookAttrDevs: // for some interfaces only
			h.Number = ForeignHook
		}
	}
	return h
}

// ParseRule reads a rule, and in which table and chain it is.
func ParseRule(f rules.Family, v nfnetlink.Data) (table, chain string, r rules.Rule) {
	var odd rules.Rule
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			table = v.Text()
		case unix.NFTA_RULE_CHAIN:
			chain = v.Text()
		case unix.NFTA_RULE_EXPRESSIONS:
			r = decodeRule(f, parseExpressions(f, v))
		case unix.NFTA_RULE_USERDATA:
			if c, ok := comment(v, udataRuleComment); ok {
				odd = rules.Rule{rules.Unknown{What: c}}
			}
		}
	}
	return table, chain, append(r, odd...)
}

func parseExpressions(f rules.Family, list nfnetlink.Data) []expr.Any {
	var out []expr.Any
	for name, data := range eachExpression(list) {
		out = append(out, parseExpression(f, name, data))
	}
	return out
}

// eachExpression returns the names and attributes of a rule's expressions.
func eachExpression(list nfnetlink.Data) iter.Seq2[string, nfnetlink.Data] {
	return func(yield func(string, nfnetlink.Data) bool) {
		for _, v := range list.Attributes() {
			var name string
			var data nfnetlink.Data
			for typ, v := range v.Attributes() {
				switch typ {
				case unix.NFTA_EXPR_NAME:
					name = v.Text()
				case unix.NFTA_EXPR_DATA:
					data = v
				}
			}
			if !yield(name, data) {
				return
			}
		}
	}
}
