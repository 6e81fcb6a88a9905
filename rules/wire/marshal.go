// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// expressions writes the expressions of a statement in a table of a family.
func (b *builder) expressions(family uint8, exprs []expr.Any) error {
	for _, e := range exprs {
		at := b.Nest(unix.NFTA_LIST_ELEM)
		if !b.common(e) && !b.payloadWrite(e) {
			v, err := expr.Marshal(family, e)
			if err != nil {
				return fmt.Errorf("encode expression %T: %w", e, err)
			}
			b.Buf = append(b.Buf, v...)
		}
		b.Close(at)
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
		b.U32(unix.NFTA_META_KEY, uint32(e.Key))
		b.U32(unix.NFTA_META_DREG, e.Register)
		b.Close(at)
	case *expr.Cmp:
		at := b.expression("cmp")
		b.U32(unix.NFTA_CMP_SREG, e.Register)
		b.U32(unix.NFTA_CMP_OP, uint32(e.Op))
		data := b.Nest(unix.NFTA_CMP_DATA)
		b.Bytes(unix.NFTA_DATA_VALUE, e.Data...)
		b.Close(data)
		b.Close(at)
	case *expr.Numgen:
		at := b.expression("numgen")
		b.U32(unix.NFTA_NG_DREG, e.Register)
		b.U32(unix.NFTA_NG_MODULUS, e.Modulus)
		b.U32(unix.NFTA_NG_TYPE, e.Type)
		b.U32(unix.NFTA_NG_OFFSET, e.Offset)
		b.Close(at)
	case *expr.Lookup:
		if e.Invert || e.SetID != 0 {
			return false
		}
		at := b.expression("lookup")
		b.U32(unix.NFTA_LOOKUP_SREG, e.SourceRegister)
		if e.IsDestRegSet {
			b.U32(unix.NFTA_LOOKUP_DREG, e.DestRegister)
		}
		b.Str(unix.NFTA_LOOKUP_SET, e.SetName)
		b.U32(unix.NFTA_LOOKUP_SET_ID, 0)
		b.Close(at)
	case *expr.NAT:
		if *e != (expr.NAT{Type: e.Type, Family: e.Family, RegAddrMin: e.RegAddrMin, RegProtoMin: e.RegProtoMin}) {
			return false
		}
		at := b.expression("nat")
		b.U32(unix.NFTA_NAT_TYPE, uint32(e.Type))
		b.U32(unix.NFTA_NAT_FAMILY, e.Family)
		b.U32(unix.NFTA_NAT_REG_ADDR_MIN, e.RegAddrMin)
		b.U32(unix.NFTA_NAT_REG_PROTO_MIN, e.RegProtoMin)
		b.Close(at)
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
	b.U32(unix.NFTA_PAYLOAD_SREG, e.SourceRegister)
	b.U32(unix.NFTA_PAYLOAD_BASE, uint32(e.Base))
	b.U32(unix.NFTA_PAYLOAD_OFFSET, e.Offset)
	b.U32(unix.NFTA_PAYLOAD_LEN, e.Len)
	b.U32(unix.NFTA_PAYLOAD_CSUM_TYPE, uint32(e.CsumType))
	b.U32(unix.NFTA_PAYLOAD_CSUM_OFFSET, e.CsumOffset)
	b.U32(unix.NFTA_PAYLOAD_CSUM_FLAGS, e.CsumFlags)
	b.Close(at)
	return true
}

// expression writes an expression's name and begins its attributes.
func (b *builder) expression(name string) int {
	b.Str(unix.NFTA_EXPR_NAME, name)
	return b.Nest(unix.NFTA_EXPR_DATA)
}
