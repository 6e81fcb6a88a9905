// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// decodeRule turns the expressions of a rule into statements. It guesses what each
// statement may be from the first expressions, encodes the guesses and compares:
// what would not be written just so is Unknown.
func decodeRule(f rules.Family, exprs []expr.Any) rules.Rule {
	var out rules.Rule
next:
	for len(exprs) > 0 {
		for _, s := range guesses(f, exprs) {
			if n := matches(f, s, exprs); n > 0 {
				out = append(out, s)
				exprs = exprs[n:]
				continue next
			}
		}
		return append(out, rules.Unknown{What: describe(exprs)})
	}
	return out
}

// matches returns how many expressions the statement consists of, if they are
// those that exprs begins with; else 0.
func matches(f rules.Family, s rules.Statement, exprs []expr.Any) int {
	want, err := encode(f, s)
	if err != nil || len(want) > len(exprs) || !reflect.DeepEqual(want, exprs[:len(want)]) {
		return 0
	}
	return len(want)
}

// describe names expressions that we do not know, for messages.
func describe(exprs []expr.Any) string {
	words := make([]string, len(exprs))
	for i, e := range exprs {
		if f, ok := e.(*foreign); ok {
			words[i] = f.name
		} else {
			words[i] = strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr."))
		}
	}
	return strings.Join(words, " ")
}

// foreign is an expression of a kind that we never write.
type foreign struct {
	expr.Any
	name string
}

// parseExpression decodes one expression, given its name and its attributes, into
// the form in which encode writes it. One that cannot be decoded is none of ours.
func parseExpression(f rules.Family, name string, data nfnetlink.Data) expr.Any {
	e := newExpression(name, data)
	if e == nil || !unmarshal(f, data, e) {
		return &foreign{name: name}
	}
	switch e := e.(type) {
	case *expr.NAT:
		normalizeNAT(e)
	case *expr.Lookup:
		e.SetID = 0
	case *expr.Dynset:
		e.SetID = 0
	}
	return e
}

// unmarshal says whether an expression could be decoded. The library takes for granted that a verdict has its code.
func unmarshal(f rules.Family, data nfnetlink.Data, e expr.Any) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return expr.Unmarshal(NFProto(f), data, e) == nil
}

func newExpression(name string, data nfnetlink.Data) expr.Any {
	switch name {
	case "meta":
		return &expr.Meta{}
	case "payload":
		return &expr.Payload{}
	case "ct":
		return &expr.Ct{}
	case "numgen":
		return &expr.Numgen{}
	case "hash":
		return &expr.Hash{}
	case "fib":
		return &expr.Fib{}
	case "dynset":
		return &expr.Dynset{}
	case "bitwise":
		return &expr.Bitwise{}
	case "cmp":
		return &expr.Cmp{}
	case "lookup":
		return &expr.Lookup{}
	case "nat":
		return &expr.NAT{}
	case "limit":
		return &expr.Limit{}
	case "masq":
		return &expr.Masq{}
	case "reject":
		return &expr.Reject{}
	case "immediate":
		if isVerdict(data) {
			return &expr.Verdict{}
		}
		return &expr.Immediate{}
	}
	return nil
}

func isVerdict(data nfnetlink.Data) bool {
	verdict := false
	for typ, v := range data.Attributes() {
		if typ == unix.NFTA_IMMEDIATE_DREG {
			verdict = v.U32() == unix.NFT_REG_VERDICT
		}
	}
	return verdict
}

// normalizeNAT drops what the kernel adds when it reports the expression: upper
// bounds equal to the lower ones, and flags that follow from the registers.
func normalizeNAT(e *expr.NAT) {
	if e.RegAddrMax == e.RegAddrMin {
		e.RegAddrMax = 0
	}
	if e.RegProtoMax == e.RegProtoMin {
		e.RegProtoMax = 0
	}
	e.Specified = false
}
