// SPDX-License-Identifier: Apache-2.0

//go:build linux

package foreign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// compiler reads the expressions of a rule one after another.
type compiler struct {
	table *table
	rule  rule
	// What the registers hold as far as it tells what the rule asks for.
	loaded map[int]field
}

// field is what a register was loaded with.
type field int

// Fields of a packet.
const (
	other field = iota
	destAddr
	protocolField
	destPort
)

// attributes are an expression's, by their types.
type attributes map[uint16]nfnetlink.Data

func attributesOf(v nfnetlink.Data) attributes {
	out := attributes{}
	for typ, v := range v.Attributes() {
		out[typ] = v
	}
	return out
}

// number returns an attribute that is a big-endian number of 32 bits.
func (a attributes) number(typ uint16) uint32 { return a[typ].U32() }

// register returns where a register is in walk.regs, in bytes. The kernel's registers of 32 bits are numbered from 8 on, and those of
// 128 bits from 1 on; they share their place.
func (a attributes) register(typ uint16) int {
	const words, word, long = unix.NFT_REG32_00, 4, 16
	switch n := int(a.number(typ)); {
	case n < words:
		return min(n, 4) * long
	default:
		return min(n-words, 15)*word + long
	}
}

// compile reads a rule's expressions.
func (t *table) compile(expressions nfnetlink.Data) rule {
	c := &compiler{table: t, loaded: map[int]field{}}
	for _, v := range expressions.Attributes() {
		e := attributesOf(v)
		c.rule.ops = append(c.rule.ops, c.expression(e[unix.NFTA_EXPR_NAME].Text(), attributesOf(e[unix.NFTA_EXPR_DATA])))
	}
	return c.rule
}

func unknown(format string, args ...any) op {
	err := fmt.Errorf(format+" is not known", args...)
	return func(*walk) (next, error) { return ended, err }
}

func pass(*walk) (next, error) { return goOn, nil }

// matching returns an op that goes on if what it is asked holds.
func matching(holds func(*walk) bool) op {
	return func(w *walk) (next, error) {
		if holds(w) {
			return goOn, nil
		}
		return noMatch, nil
	}
}

func (c *compiler) expression(name string, a attributes) op {
	switch name {
	case "payload":
		return c.payload(a)
	case "meta":
		return c.meta(a)
	case "cmp":
		return c.compare(a)
	case "bitwise":
		return bitwise(a)
	case "byteorder":
		return byteorder(a)
	case "range":
		return ranged(a)
	case "lookup":
		return c.lookup(a)
	case "immediate":
		return c.immediate(a)
	case "numgen":
		return numgen(a)
	case "fib":
		return fib(a)
	case "ct":
		return conntrack(a)
	case "dynset":
		return c.dynset(a)
	case "nat":
		return nat(a)
	case "masq":
		return masquerade
	case "reject":
		c.rule.facts.ends = true
		return reject
	case "match":
		return c.match(a[unix.NFTA_MATCH_NAME].Text(), a.number(unix.NFTA_MATCH_REV), a[unix.NFTA_MATCH_INFO])
	case "target":
		return c.target(a[unix.NFTA_TARGET_NAME].Text(), a.number(unix.NFTA_TARGET_REV), a[unix.NFTA_TARGET_INFO])
	case "counter", "log", "limit", "notrack":
		return pass
	}
	return unknown("expression %q", name)
}

// load returns an op that puts bytes into a register.
func load(register int, value func(*walk) []byte) op {
	return func(w *walk) (next, error) {
		v := value(w)
		if v == nil {
			return noMatch, nil
		}
		copy(w.regs[register:], v)
		return goOn, nil
	}
}

func (c *compiler) payload(a attributes) op {
	if _, writes := a[unix.NFTA_PAYLOAD_SREG]; writes {
		return unknown("a payload that is written")
	}
	offset, n, register := int(a.number(unix.NFTA_PAYLOAD_OFFSET)), int(a.number(unix.NFTA_PAYLOAD_LEN)), a.register(unix.NFTA_PAYLOAD_DREG)
	part := func(header []byte) op {
		if n < 0 || offset < 0 || n > len(header) || offset > len(header)-n {
			return unknown("%d bytes from byte %d of a header", n, offset)
		}
		return nil
	}
	switch a.number(unix.NFTA_PAYLOAD_BASE) {
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		if o := part(make([]byte, 40)); o != nil {
			return o
		}
		c.loaded[register] = networkField(c.table.family, offset, n)
		return load(register, func(w *walk) []byte { return w.network[offset : offset+n] })
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		if o := part(make([]byte, 20)); o != nil {
			return o
		}
		c.loaded[register] = other
		if offset == 2 && n == 2 {
			c.loaded[register] = destPort
		}
		return load(register, func(w *walk) []byte { return w.transport[offset : offset+n] })
	}
	return unknown("a payload of another header")
}

func networkField(f rules.Family, offset, n int) field {
	switch {
	case f == rules.IPv4 && offset == 16 && n == 4, f == rules.IPv6 && offset == 24 && n == 16:
		return destAddr
	case f == rules.IPv4 && offset == 9 && n == 1, f == rules.IPv6 && offset == 6 && n == 1:
		return protocolField
	}
	return other
}

// native writes a number of 32 bits as registers hold it.
func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// interfaceName writes a name as registers hold it.
func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func (c *compiler) meta(a attributes) op {
	key := a.number(unix.NFTA_META_KEY)
	if _, writes := a[unix.NFTA_META_SREG]; writes {
		register := a.register(unix.NFTA_META_SREG)
		switch key {
		case unix.NFT_META_MARK:
			return func(w *walk) (next, error) {
				w.mark = binary.NativeEndian.Uint32(w.regs[register:])
				return goOn, nil
			}
		case unix.NFT_META_NFTRACE:
			return pass
		}
		return unknown("meta %d that is written", key)
	}
	register := a.register(unix.NFTA_META_DREG)
	c.loaded[register] = other
	switch key {
	case unix.NFT_META_MARK:
		return load(register, func(w *walk) []byte { return native(w.mark) })
	case unix.NFT_META_NFPROTO:
		return load(register, func(w *walk) []byte {
			if w.packet.Dst.Addr().Is4() {
				return []byte{unix.NFPROTO_IPV4, 0, 0, 0}
			}
			return []byte{unix.NFPROTO_IPV6, 0, 0, 0}
		})
	case unix.NFT_META_L4PROTO:
		c.loaded[register] = protocolField
		return load(register, func(w *walk) []byte { return []byte{byte(w.packet.Protocol), 0, 0, 0} })
	case unix.NFT_META_IIFNAME:
		return load(register, func(w *walk) []byte {
			if w.packet.Interface == "" {
				return nil
			}
			return interfaceName(w.packet.Interface)
		})
	case unix.NFT_META_OIFNAME:
		return load(register, func(w *walk) []byte {
			if w.packet.Local(w.way.To.Addr()) {
				return interfaceName("lo")
			}
			return interfaceName("(out)")
		})
	}
	return unknown("meta %d", key)
}

func (c *compiler) compare(a attributes) op {
	register, operation, data := a.register(unix.NFTA_CMP_SREG), a.number(unix.NFTA_CMP_OP), valueOf(a[unix.NFTA_CMP_DATA])
	if register+len(data) > len(walk{}.regs) {
		return unknown("a comparison of %d bytes", len(data))
	}
	if operation == unix.NFT_CMP_EQ {
		c.learn(c.loaded[register], data)
	}
	return matching(func(w *walk) bool {
		order := bytes.Compare(w.regs[register:register+len(data)], data)
		switch operation {
		case unix.NFT_CMP_EQ:
			return order == 0
		case unix.NFT_CMP_NEQ:
			return order != 0
		case unix.NFT_CMP_LT:
			return order < 0
		case unix.NFT_CMP_LTE:
			return order <= 0
		case unix.NFT_CMP_GT:
			return order > 0
		}
		return order >= 0
	})
}

// learn notes what a rule asks for.
func (c *compiler) learn(what field, data []byte) {
	f := &c.rule.facts
	switch {
	case what == destAddr && (len(data) == 4 || len(data) == 16):
		f.daddr = data
	case what == protocolField && len(data) > 0:
		f.proto = data[0]
	case what == destPort && len(data) == 2:
		f.dport = binary.BigEndian.Uint16(data)
	}
}

func bitwise(a attributes) op {
	from, to, n := a.register(unix.NFTA_BITWISE_SREG), a.register(unix.NFTA_BITWISE_DREG), int(a.number(unix.NFTA_BITWISE_LEN))
	mask, xor := valueOf(a[unix.NFTA_BITWISE_MASK]), valueOf(a[unix.NFTA_BITWISE_XOR])
	const operation = 6 // NFTA_BITWISE_OP; 0: mask and xor
	if a.number(operation) != 0 || n > 16 || len(mask) < n || len(xor) < n || max(from, to)+n > len(walk{}.regs) {
		return unknown("a bitwise operation %d of %d bytes", a.number(operation), n)
	}
	return func(w *walk) (next, error) {
		for i := range n {
			w.regs[to+i] = w.regs[from+i]&mask[i] ^ xor[i]
		}
		return goOn, nil
	}
}

func byteorder(a attributes) op {
	from, to := a.register(unix.NFTA_BYTEORDER_SREG), a.register(unix.NFTA_BYTEORDER_DREG)
	n, size := int(a.number(unix.NFTA_BYTEORDER_LEN)), int(a.number(unix.NFTA_BYTEORDER_SIZE))
	if size != 2 && size != 4 && size != 8 || n > 16 || n%size != 0 || max(from, to)+n > len(walk{}.regs) {
		return unknown("a byteorder of %d bytes", size)
	}
	return func(w *walk) (next, error) {
		for i := 0; i < n; i += size {
			v := slices.Clone(w.regs[from+i : from+i+size])
			if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 { // little endian
				slices.Reverse(v)
			}
			copy(w.regs[to+i:], v)
		}
		return goOn, nil
	}
}

func ranged(a attributes) op {
	register, not := a.register(unix.NFTA_RANGE_SREG), a.number(unix.NFTA_RANGE_OP) == unix.NFT_RANGE_NEQ
	from, to := valueOf(a[unix.NFTA_RANGE_FROM_DATA]), valueOf(a[unix.NFTA_RANGE_TO_DATA])
	if len(from) != len(to) || register+len(from) > len(walk{}.regs) {
		return unknown("a range of %d bytes", len(from))
	}
	return matching(func(w *walk) bool {
		v := w.regs[register : register+len(from)]
		return (bytes.Compare(v, from) >= 0 && bytes.Compare(v, to) <= 0) != not
	})
}

func (c *compiler) lookup(a attributes) op {
	name := a[unix.NFTA_LOOKUP_SET].Text()
	s := c.table.sets[name]
	if s == nil {
		return unknown("set %s", name)
	}
	key, not := a.register(unix.NFTA_LOOKUP_SREG), a.number(unix.NFTA_LOOKUP_FLAGS)&unix.NFT_LOOKUP_F_INV != 0
	to, maps := a.register(unix.NFTA_LOOKUP_DREG), a[unix.NFTA_LOOKUP_DREG] != nil
	if s.keyLen < 0 || key+s.keyLen > len(walk{}.regs) {
		return unknown("set %s with keys of %d bytes", name, s.keyLen)
	}
	remembers := s.flags&unix.NFT_SET_EVAL != 0
	return func(w *walk) (next, error) {
		if remembers { // clients: this one is new
			if not {
				return goOn, nil
			}
			return noMatch, nil
		}
		e := s.lookUp(w.regs[key : key+s.keyLen])
		switch {
		case (e != nil) == not:
			return noMatch, nil
		case e == nil || !maps:
			return goOn, nil
		case e.verdict != nil:
			return w.carryOut(e.verdict)
		}
		copy(w.regs[to:], e.data)
		return goOn, nil
	}
}

func (c *compiler) immediate(a attributes) op {
	data, v := dataOf(a[unix.NFTA_IMMEDIATE_DATA])
	if v != nil {
		c.rule.facts.goes = v.chain
		c.rule.facts.ends = c.rule.facts.ends || v.code == 0
		return func(w *walk) (next, error) { return w.carryOut(v) }
	}
	register := a.register(unix.NFTA_IMMEDIATE_DREG)
	return load(register, func(*walk) []byte { return append([]byte{}, data...) })
}
