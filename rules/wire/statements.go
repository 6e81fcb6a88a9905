// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// Every statement is a run of expressions that work on registers. Here is how each is written, and what those are
// that expressions read from the kernel may be.

// encode returns the expressions of a statement.
func encode(f rules.Family, s rules.Statement) ([]expr.Any, error) {
	switch s := s.(type) {
	case rules.MatchProtocol:
		return []expr.Any{loadL4(0), equal([]byte{byte(s.Protocol)}, false)}, nil
	case rules.MatchSource:
		return matchPrefix(f, true, s.Prefix, s.Not), nil
	case rules.MatchInterface:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register(0)}, equal(interfaceName(s.Name), s.Not)}, nil
	case rules.MatchLocalSource:
		return []expr.Any{&expr.Fib{Register: register(0), FlagSADDR: true, ResultADDRTYPE: true}, equal(host32(unix.RTN_LOCAL), false)}, nil
	case rules.MatchLocalDest:
		return append(matchPrefix(f, false, loopback(f), true),
			&expr.Fib{Register: register(0), FlagDADDR: true, ResultADDRTYPE: true}, equal(host32(unix.RTN_LOCAL), false)), nil
	case rules.MatchSet:
		return append(load(f, s.Fields), &expr.Lookup{SourceRegister: register(0), SetName: s.Set.Name(), Invert: s.Not}), nil
	case rules.MatchDNAT:
		return matchCtBits(expr.CtKeySTATUS, dnatBit, true), nil
	case rules.MatchMarkUnset:
		return []expr.Any{loadMark(), bitwise(host32(s.Bits), host32(0)), equal(host32(0), false)}, nil
	case rules.SetMark:
		return []expr.Any{loadMark(), bitwise(host32(^s.Bits), host32(s.Bits)), storeMark()}, nil
	case rules.FlipMark:
		return []expr.Any{loadMark(), bitwise(host32(^uint32(0)), host32(s.Bits)), storeMark()}, nil
	case rules.Dispatch:
		return append(load(f, s.Fields), &expr.Lookup{SourceRegister: register(0), SetName: s.Map.Name(), IsDestRegSet: true}), nil
	case rules.DNAT:
		return append(load(f, s.Fields),
			&expr.Lookup{SourceRegister: register(0), SetName: s.Map.Name(), IsDestRegSet: true, DestRegister: register(0)},
			translate(f)), nil
	case rules.DNATRemembered:
		return dnatRemembered(f, s), nil
	case rules.RestoreDest:
		return append(load(f, rules.NewFields(rules.Field{Kind: rules.OriginalAddr})), storeDest(f, register(0))), nil
	case rules.Forget:
		return append(load(f, rememberFields()), &expr.Dynset{SrcRegKey: register(0), SrcRegData: register(words(f)),
			SetName: s.Set.Name(), Operation: dynsetDelete}), nil
	case rules.Remember:
		return append(load(f, rememberFields()), remember(f, s)), nil
	default:
		return encodeFailover(f, s)
	}
}

// encodeFailover is for the statements of failover.
func encodeFailover(f rules.Family, s rules.Statement) ([]expr.Any, error) {
	switch s := s.(type) {
	case rules.MatchUnassured:
		return matchCtBits(expr.CtKeySTATUS, assuredBit, false), nil
	case rules.MatchNew:
		return matchCtBits(expr.CtKeySTATE, expr.CtStateBitNEW, true), nil
	case rules.MatchReply:
		return []expr.Any{&expr.Ct{Register: register(0), Key: expr.CtKeyDIRECTION}, equal([]byte{replyDirection}, false)}, nil
	case rules.Once:
		return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeDay, Burst: 1}}, nil
	case rules.Note:
		return note(f, s), nil
	default:
		return encodeVerdict(f, s)
	}
}

// encodeVerdict is for the statements that decide.
func encodeVerdict(f rules.Family, s rules.Statement) ([]expr.Any, error) {
	switch s := s.(type) {
	case rules.Jump:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: s.Chain}}, nil
	case rules.Goto:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: s.Chain}}, nil
	case rules.Return:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}, nil
	case rules.Reject:
		return []expr.Any{reject(f)}, nil
	case rules.Reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}, nil
	case rules.RejectProtocol:
		if f != rules.IPv4 {
			return nil, fmt.Errorf("encode rule: statement %T is for IPv4 only", s)
		}
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 2}}, nil // ICMP_PROT_UNREACH
	case rules.Drop:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, nil
	case rules.Masquerade:
		return []expr.Any{&expr.Masq{FullyRandom: true}}, nil
	}
	return nil, fmt.Errorf("encode rule: statement %T cannot be written", s)
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
		out = append(out, rules.MatchDNAT{}, rules.RestoreDest{}, rules.MatchUnassured{}, rules.MatchNew{}, rules.MatchReply{})
	case *expr.Limit:
		out = append(out, rules.Once{})
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
	if s, ok := guessNote(f, exprs); ok {
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
		return rules.Remember{Set: set, Seconds: uint32(d.Timeout / time.Second)}, ok //nolint:gosec // a guess, which is encoded again and compared
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

// guessNote is for statements that load up to five fields for a set, those of its key first.
func guessNote(f rules.Family, exprs []expr.Any) (s rules.Note, ok bool) {
	for _, e := range exprs[:min(6, len(exprs))] {
		if d, is := e.(*expr.Dynset); is {
			s.Set, ok = rules.ParseSetID(d.SetName)
			fields, _ := guessFields(f, exprs)
			copy(s.Fields[:], fields[:min(len(fields), len(s.Set.Kind.Key()))])
			s.Seconds, s.Update = uint32(d.Timeout/time.Second), d.Operation == unix.NFT_DYNSET_OP_UPDATE //nolint:gosec // a guess, which is encoded again and compared
			return s, ok
		}
	}
	return s, false
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
