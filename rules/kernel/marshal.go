// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// expressions writes the expressions of a statement.
func (b *builder) expressions(f rules.Family, exprs []expr.Any) error {
	for _, e := range exprs {
		at := b.nest(unix.NFTA_LIST_ELEM)
		if !b.common(e) && !b.payloadWrite(e) {
			v, err := expr.Marshal(nfproto(f), e)
			if err != nil {
				return fmt.Errorf("encode expression %T: %w", e, err)
			}
			b.buf = append(b.buf, v...)
		}
		b.close(at)
	}
	return nil
}

// common writes an expression as expr.Marshal does, but without its garbage: those
// that are in every service's rule, which is a quarter of what a full load takes to
// encode. It returns false for others.
func (b *builder) common(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Meta:
		if e.SourceRegister {
			return false
		}
		at := b.expression("meta")
		b.u32(unix.NFTA_META_KEY, uint32(e.Key))
		b.u32(unix.NFTA_META_DREG, e.Register)
		b.close(at)
	case *expr.Cmp:
		at := b.expression("cmp")
		b.u32(unix.NFTA_CMP_SREG, e.Register)
		b.u32(unix.NFTA_CMP_OP, uint32(e.Op))
		data := b.nest(unix.NFTA_CMP_DATA)
		b.bytes(unix.NFTA_DATA_VALUE, e.Data)
		b.close(data)
		b.close(at)
	case *expr.Numgen:
		at := b.expression("numgen")
		b.u32(unix.NFTA_NG_DREG, e.Register)
		b.u32(unix.NFTA_NG_MODULUS, e.Modulus)
		b.u32(unix.NFTA_NG_TYPE, e.Type)
		b.u32(unix.NFTA_NG_OFFSET, e.Offset)
		b.close(at)
	case *expr.Lookup:
		if e.Invert || e.SetID != 0 {
			return false
		}
		at := b.expression("lookup")
		b.u32(unix.NFTA_LOOKUP_SREG, e.SourceRegister)
		if e.IsDestRegSet {
			b.u32(unix.NFTA_LOOKUP_DREG, e.DestRegister)
		}
		b.str(unix.NFTA_LOOKUP_SET, e.SetName)
		b.u32(unix.NFTA_LOOKUP_SET_ID, 0)
		b.close(at)
	case *expr.NAT:
		if *e != (expr.NAT{Type: e.Type, Family: e.Family, RegAddrMin: e.RegAddrMin, RegProtoMin: e.RegProtoMin}) {
			return false
		}
		at := b.expression("nat")
		b.u32(unix.NFTA_NAT_TYPE, uint32(e.Type))
		b.u32(unix.NFTA_NAT_FAMILY, e.Family)
		b.u32(unix.NFTA_NAT_REG_ADDR_MIN, e.RegAddrMin)
		b.u32(unix.NFTA_NAT_REG_PROTO_MIN, e.RegProtoMin)
		b.close(at)
	default:
		return false
	}
	return true
}

// payloadWrite writes an expression that writes into the packet. expr.Marshal leaves the flags out where the header
// has no checksum itself, as IPv6's. It returns false for others.
func (b *builder) payloadWrite(a expr.Any) bool {
	e, ok := a.(*expr.Payload)
	if !ok || e.OperationType != expr.PayloadWrite {
		return false
	}
	at := b.expression("payload")
	b.u32(unix.NFTA_PAYLOAD_SREG, e.SourceRegister)
	b.u32(unix.NFTA_PAYLOAD_BASE, uint32(e.Base))
	b.u32(unix.NFTA_PAYLOAD_OFFSET, e.Offset)
	b.u32(unix.NFTA_PAYLOAD_LEN, e.Len)
	b.u32(unix.NFTA_PAYLOAD_CSUM_TYPE, uint32(e.CsumType))
	b.u32(unix.NFTA_PAYLOAD_CSUM_OFFSET, e.CsumOffset)
	b.u32(unix.NFTA_PAYLOAD_CSUM_FLAGS, e.CsumFlags)
	b.close(at)
	return true
}

// expression writes an expression's name and begins its attributes.
func (b *builder) expression(name string) int {
	b.str(unix.NFTA_EXPR_NAME, name)
	return b.nest(unix.NFTA_EXPR_DATA)
}
