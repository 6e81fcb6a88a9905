// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// decodeRule turns the expressions of a rule into statements. It guesses each
// statement from the first expressions, encodes the guess and compares: what
// would not be written just so is Unknown.
func decodeRule(f rules.Family, exprs []expr.Any) rules.Rule {
	var out rules.Rule
	for len(exprs) > 0 {
		s, ok := guess(f, exprs)
		n := 0
		if ok {
			n = matches(f, s, exprs)
		}
		if n == 0 {
			return append(out, rules.Unknown{What: describe(exprs)})
		}
		out = append(out, s)
		exprs = exprs[n:]
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

// guess returns the statement that the expressions begin with, if they begin with
// one of ours.
func guess(f rules.Family, exprs []expr.Any) (rules.Statement, bool) {
	switch e := exprs[0].(type) {
	case *expr.Verdict:
		switch e.Kind {
		case expr.VerdictJump:
			return rules.Jump{Chain: e.Chain}, true
		case expr.VerdictReturn:
			return rules.Return{}, true
		}
	case *expr.Reject:
		if e.Type == unix.NFT_REJECT_TCP_RST {
			return rules.Reset{}, true
		}
		return rules.Reject{}, true
	case *expr.Masq:
		return rules.Masquerade{}, true
	case *expr.Ct:
		return rules.MatchDNAT{}, true
	case *expr.Meta:
		if e.Key == expr.MetaKeyMARK {
			return guessMark(exprs)
		}
	}
	if s, ok := guessCompare(f, exprs); ok {
		return s, true
	}
	return guessLookup(f, exprs)
}

func guessMark(exprs []expr.Any) (rules.Statement, bool) {
	if len(exprs) < 3 {
		return nil, false
	}
	b, ok := exprs[1].(*expr.Bitwise)
	if !ok || len(b.Mask) != 4 || len(b.Xor) != 4 {
		return nil, false
	}
	mask, xor := binary.NativeEndian.Uint32(b.Mask), binary.NativeEndian.Uint32(b.Xor)
	switch {
	case xor == 0:
		return rules.MatchMarkUnset{Bits: mask}, true
	case mask == ^uint32(0):
		return rules.FlipMark{Bits: xor}, true
	default:
		return rules.SetMark{Bits: xor}, true
	}
}

// guessCompare is for the statements that compare one field with a value.
func guessCompare(f rules.Family, exprs []expr.Any) (rules.Statement, bool) {
	bits := -1
	i := 1
	if len(exprs) > 2 {
		if b, ok := exprs[1].(*expr.Bitwise); ok {
			bits = leadingOnes(b.Mask)
			i = 2
		}
	}
	if len(exprs) <= i {
		return nil, false
	}
	c, ok := exprs[i].(*expr.Cmp)
	if !ok {
		return nil, false
	}
	if _, isMeta := exprs[0].(*expr.Meta); isMeta && len(c.Data) == 1 {
		return rules.MatchProtocol{Protocol: rules.Protocol(c.Data[0])}, true
	}
	if bits < 0 {
		bits = 8 * len(c.Data)
	}
	if len(c.Data) > 4*words(f) {
		return nil, false
	}
	addr, _ := netip.AddrFromSlice(append(bytes.Clone(c.Data), make([]byte, 4*words(f)-len(c.Data))...))
	return rules.MatchSource{Prefix: netip.PrefixFrom(addr, bits), Not: c.Op == expr.CmpOpNeq}, true
}

func leadingOnes(mask []byte) int {
	n := 0
	for _, b := range mask {
		for ; b&0x80 != 0; b <<= 1 {
			n++
		}
	}
	return n
}

// guessLookup is for the statements that look fields up in a set.
func guessLookup(f rules.Family, exprs []expr.Any) (rules.Statement, bool) {
	fields, n := guessFields(f, exprs)
	if n == 0 || n == len(exprs) {
		return nil, false
	}
	l, ok := exprs[n].(*expr.Lookup)
	if !ok {
		return nil, false
	}
	set, ok := rules.ParseSetID(l.SetName)
	switch {
	case !ok:
		return nil, false
	case !l.IsDestRegSet:
		return rules.MatchSet{Fields: fields, Set: set}, true
	case l.DestRegister == unix.NFT_REG_VERDICT:
		return rules.Dispatch{Fields: fields, Map: set}, true
	default:
		return rules.DNAT{Family: f, Fields: fields, Map: set}, true
	}
}

// guessFields returns the fields that the first n expressions load.
func guessFields(f rules.Family, exprs []expr.Any) (rules.Fields, int) {
	var fields rules.Fields
	at := 0
	for n, e := range exprs {
		if n == len(fields) {
			return fields, n
		}
		fd, ok := guessField(f, e, at)
		if !ok {
			return fields, n
		}
		fields[n] = fd
		_, w := loadField(f, fd, at)
		at += w
	}
	return fields, len(exprs)
}

func guessField(f rules.Family, e expr.Any, at int) (rules.Field, bool) {
	candidates := []rules.Field{{Kind: rules.SourceAddr}, {Kind: rules.DestAddr}, {Kind: rules.L4Protocol}, {Kind: rules.DestPort}}
	if g, ok := e.(*expr.Numgen); ok {
		candidates = []rules.Field{{Kind: rules.Numgen, Mod: g.Modulus, Offset: g.Offset}}
	}
	for _, fd := range candidates {
		if want, _ := loadField(f, fd, at); reflect.DeepEqual(want, e) {
			return fd, true
		}
	}
	return rules.Field{}, false
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
func parseExpression(f rules.Family, name string, data []byte) expr.Any {
	e := newExpression(name, data)
	if e == nil || expr.Unmarshal(nfproto(f), data, e) != nil {
		return &foreign{name: name}
	}
	switch e := e.(type) {
	case *expr.NAT:
		normalizeNAT(e)
	case *expr.Lookup:
		e.SetID = 0
	}
	return e
}

func newExpression(name string, data []byte) expr.Any {
	switch name {
	case "meta":
		return &expr.Meta{}
	case "payload":
		return &expr.Payload{}
	case "ct":
		return &expr.Ct{}
	case "numgen":
		return &expr.Numgen{}
	case "bitwise":
		return &expr.Bitwise{}
	case "cmp":
		return &expr.Cmp{}
	case "lookup":
		return &expr.Lookup{}
	case "nat":
		return &expr.NAT{}
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

func isVerdict(data []byte) bool {
	verdict := false
	eachAttr(data, func(typ uint16, v []byte) {
		if typ == unix.NFTA_IMMEDIATE_DREG {
			verdict = be32(v) == unix.NFT_REG_VERDICT
		}
	})
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
