// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"fmt"
	"reflect"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// Fields are loaded into consecutive 32-bit registers from the first one on.

// register returns the number of the i-th 32-bit register. Where a 128-bit
// register starts at the same place the kernel reports that one's number.
func register(i int) uint32 {
	if i%4 == 0 {
		return uint32(unix.NFT_REG_1 + i/4) //nolint:gosec // registers are few
	}
	return uint32(unix.NFT_REG32_00 + i) //nolint:gosec // registers are few
}

// words returns how many 32-bit registers an address takes.
func words(f rules.Family) int {
	if f == rules.IPv6 {
		return 4
	}
	return 1
}

// load loads fields one after the other.
func load(f rules.Family, fs rules.Fields) []expr.Any {
	var out []expr.Any
	at := 0
	for _, fd := range fs.All() {
		e, n := loadField(f, fd, at)
		out = append(out, e...)
		at += n
	}
	return out
}

// loadField returns the expressions that load a field into the registers from
// the at-th on, and how many it takes.
func loadField(f rules.Family, fd rules.Field, at int) ([]expr.Any, int) {
	reg := register(at)
	switch fd.Kind {
	case rules.SourceAddr:
		return []expr.Any{loadAddr(f, true, reg)}, words(f)
	case rules.DestAddr:
		return []expr.Any{loadAddr(f, false, reg)}, words(f)
	case rules.L4Protocol:
		return []expr.Any{loadL4(at)}, 1
	case rules.DestPort:
		return []expr.Any{loadPort(reg, 2)}, 1
	case rules.SourcePort:
		return []expr.Any{loadPort(reg, 0)}, 1
	case rules.Numgen, rules.RandomNumber:
		typ := uint32(unix.NFT_NG_INCREMENTAL)
		if fd.Kind == rules.RandomNumber {
			typ = unix.NFT_NG_RANDOM
		}
		return []expr.Any{&expr.Numgen{Register: reg, Modulus: fd.Mod, Type: typ, Offset: fd.Offset}}, 1
	case rules.FlowHash, rules.AddrHash:
		return clientHash(f, fd, at), 1
	case rules.OriginalAddr:
		key := expr.CtKeyDSTIP
		if f == rules.IPv6 {
			key = expr.CtKeyDSTIP6
		}
		return []expr.Any{&expr.Ct{Register: reg, Key: key, Direction: expr.CtDirOriginal}}, words(f)
	case rules.OriginalPort:
		return []expr.Any{&expr.Ct{Register: reg, Key: expr.CtKeyPROTODST, Direction: expr.CtDirOriginal}}, 1
	}
	panic(fmt.Sprintf("kernel: no expression for field kind %d", fd.Kind))
}

// clientHash hashes the client's address, and the port if that is asked for, which go into registers behind the
// key, where nft puts them. The hash is the last field of a key.
func clientHash(f rules.Family, fd rules.Field, at int) []expr.Any {
	scratch, length := at+5, 4*words(f)
	out := []expr.Any{loadAddr(f, true, register(scratch))}
	if fd.Kind == rules.FlowHash {
		out = append(out, loadPort(register(scratch+words(f)), 0))
		length += 4
	}
	return append(out, &expr.Hash{SourceRegister: register(scratch), DestRegister: register(at), Length: uint32(length), //nolint:gosec // fields are short
		Modulus: fd.Mod, Seed: fd.Seed, Offset: fd.Offset, Type: expr.HashTypeJenkins})
}

// loadPort loads a port from the transport header: the source's is at 0, the
// destination's at 2.
func loadPort(reg, offset uint32) *expr.Payload {
	return &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: reg,
		Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
}

// loadAddr loads an address from where the IPv4 and IPv6 headers have it.
func loadAddr(f rules.Family, source bool, reg uint32) *expr.Payload {
	p := &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: reg, Base: expr.PayloadBaseNetworkHeader}
	switch {
	case f == rules.IPv4 && source:
		p.Offset, p.Len = 12, 4
	case f == rules.IPv4:
		p.Offset, p.Len = 16, 4
	case source:
		p.Offset, p.Len = 8, 16
	default:
		p.Offset, p.Len = 24, 16
	}
	return p
}

func loadL4(reg int) *expr.Meta { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register(reg)} }

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
		{Kind: rules.OriginalAddr}, {Kind: rules.OriginalPort}, {Kind: rules.SourcePort}}
	for _, e := range exprs[:min(3, len(exprs))] { // as many as make a hash
		switch e := e.(type) {
		case *expr.Numgen:
			candidates = append(candidates, rules.Field{Kind: rules.Numgen, Mod: e.Modulus, Offset: e.Offset},
				rules.Field{Kind: rules.RandomNumber, Mod: e.Modulus, Offset: e.Offset})
		case *expr.Hash:
			candidates = append(candidates, rules.Field{Kind: rules.FlowHash, Mod: e.Modulus, Offset: e.Offset, Seed: e.Seed},
				rules.Field{Kind: rules.AddrHash, Mod: e.Modulus, Offset: e.Offset, Seed: e.Seed})
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
