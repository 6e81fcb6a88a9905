// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

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

// guesses returns statements that the expressions may begin with.
func guesses(f rules.Family, exprs []expr.Any) []rules.Statement {
	var out []rules.Statement
	switch e := exprs[0].(type) {
	case *expr.Verdict:
		out = append(out, rules.Jump{Chain: e.Chain}, rules.Goto{Chain: e.Chain}, rules.Return{}, rules.Drop{})
	case *expr.Reject:
		out = append(out, rules.Reset{}, rules.RejectProtocol{}, rules.Reject{})
	case *expr.Masq:
		out = append(out, rules.Masquerade{})
	case *expr.Ct:
		out = append(out, rules.MatchDNAT{}, rules.RestoreDest{})
	case *expr.Fib:
		out = append(out, rules.MatchLocalSource{})
	case *expr.Payload:
		out = append(out, rules.MatchLocalDest{})
	case *expr.Meta:
		if s, ok := guessMark(exprs); ok && e.Key == expr.MetaKeyMARK {
			out = append(out, s)
		}
	}
	if s, ok := guessCompare(f, exprs); ok {
		out = append(out, s)
	}
	if s, ok := guessLookup(f, exprs); ok {
		out = append(out, s)
	}
	if s, ok := guessRemembered(f, exprs); ok {
		out = append(out, s)
	}
	return out
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
	if m, ok := exprs[0].(*expr.Meta); ok {
		switch {
		case m.Key == expr.MetaKeyIIFNAME && len(c.Data) == unix.IFNAMSIZ:
			return rules.MatchInterface{Name: string(bytes.TrimRight(c.Data, "\x00")), Not: c.Op == expr.CmpOpNeq}, true
		case m.Key == expr.MetaKeyIIFNAME:
			return rules.MatchInterface{Name: string(c.Data) + "*", Not: c.Op == expr.CmpOpNeq}, true
		case len(c.Data) == 1:
			return rules.MatchProtocol{Protocol: rules.Protocol(c.Data[0])}, true
		}
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
	if d, ok := exprs[n].(*expr.Dynset); ok {
		set, ok := rules.ParseSetID(d.SetName)
		if d.Operation == dynsetDelete {
			return rules.Forget{Set: set}, ok
		}
		return rules.Remember{Set: set, Seconds: uint32(d.Timeout / time.Second)}, ok
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
		return rules.MatchSet{Fields: fields, Set: set, Not: l.Invert}, true
	case l.DestRegister == unix.NFT_REG_VERDICT:
		return rules.Dispatch{Fields: fields, Map: set}, true
	default:
		return rules.DNAT{Family: f, Fields: fields, Map: set}, true
	}
}

// guessRemembered looks for what distinguishes such statements where encode puts it.
func guessRemembered(f rules.Family, exprs []expr.Any) (s rules.DNATRemembered, ok bool) {
	s.Family = f
	want := dnatRemembered(f, s)
	if len(exprs) < len(want) {
		return s, false
	}
	var maps []rules.SetID
	for i := range want {
		switch e := exprs[i].(type) {
		case *expr.Numgen:
			s.ID = e.Offset
		case *expr.Lookup:
			id, ok := rules.ParseSetID(e.SetName)
			if !ok {
				return s, false
			}
			maps = append(maps, id)
		}
	}
	if len(maps) != 2 {
		return s, false
	}
	s.Clients, s.Map = maps[0], maps[1]
	return s, true
}

// guessFields returns the fields that the first n expressions load.
func guessFields(f rules.Family, exprs []expr.Any) (fields rules.Fields, n int) {
	at := 0
	for i := range fields {
		fd, used := guessField(f, exprs[n:], at)
		if used == 0 {
			break
		}
		fields[i] = fd
		n += used
		_, w := loadField(f, fd, at)
		at += w
	}
	return fields, n
}

// guessField returns the field that the expressions begin to load, and how many of
// them do.
func guessField(f rules.Family, exprs []expr.Any, at int) (rules.Field, int) {
	candidates := []rules.Field{{Kind: rules.SourceAddr}, {Kind: rules.DestAddr}, {Kind: rules.L4Protocol}, {Kind: rules.DestPort},
		{Kind: rules.OriginalAddr}, {Kind: rules.OriginalPort}}
	for _, e := range exprs[:min(3, len(exprs))] { // as many as make a hash
		switch e := e.(type) {
		case *expr.Numgen:
			candidates = append(candidates, rules.Field{Kind: rules.Numgen, Mod: e.Modulus, Offset: e.Offset},
				rules.Field{Kind: rules.RandomNumber, Mod: e.Modulus, Offset: e.Offset})
		case *expr.Hash:
			candidates = append(candidates, rules.Field{Kind: rules.ClientHash, Mod: e.Modulus, Offset: e.Offset})
		}
	}
	for _, fd := range candidates {
		want, _ := loadField(f, fd, at)
		if len(want) <= len(exprs) && reflect.DeepEqual(want, exprs[:len(want)]) {
			return fd, len(want)
		}
	}
	return rules.Field{}, 0
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
	if e == nil || expr.Unmarshal(NFProto(f), data, e) != nil {
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
