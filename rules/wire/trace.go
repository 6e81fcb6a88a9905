// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// TraceTable holds the rules that choose what is traced. It belongs to the socket that
// made it (kernel 5.12): it goes with it, however this program ends.
const TraceTable = "nftproxy-trace"

// tracePriority is after connection tracking knows the packet, and before our chains
// change it.
const tracePriority = -150

const (
	traceMessage   = 17 // NFT_MSG_TRACE
	ctStateNew     = 8  // NF_CT_STATE_BIT(IP_CT_NEW)
	traceTypeRule  = 3  // NFT_TRACETYPE_RULE
	verdictDropped = 0  // NF_DROP
)

// Attributes of NFT_MSG_TRACE, enum nft_trace_attributes.
const (
	traceAttrTable     = 1
	traceAttrChain     = 2
	traceAttrType      = 4
	traceAttrVerdict   = 5
	traceAttrID        = 6
	traceAttrNetwork   = 8
	traceAttrTransport = 9
	traceAttrNfproto   = 15
)

// Table returns the batch that adds the table with the rules that choose.
func (f TraceFilter) Table() ([]byte, error) {
	b := &builder{}
	b.Message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_ACK, unix.NFPROTO_INET)
	b.Str(unix.NFTA_TABLE_NAME, TraceTable)
	b.U32(unix.NFTA_TABLE_FLAGS, tableOwner)
	b.End()
	for _, chain := range []struct {
		name string
		hook uint32
	}{{"prerouting", unix.NF_INET_PRE_ROUTING}, {"output", unix.NF_INET_LOCAL_OUT}} {
		b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_INET)
		b.Str(unix.NFTA_CHAIN_TABLE, TraceTable)
		b.Str(unix.NFTA_CHAIN_NAME, chain.name)
		hook := b.Nest(unix.NFTA_CHAIN_HOOK)
		b.U32(unix.NFTA_HOOK_HOOKNUM, chain.hook)
		priority := tracePriority
		b.U32(unix.NFTA_HOOK_PRIORITY, uint32(priority))
		b.Close(hook)
		b.Str(unix.NFTA_CHAIN_TYPE, "filter")
		b.End()
		for _, family := range f.families() {
			b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.NFPROTO_INET)
			b.Str(unix.NFTA_RULE_TABLE, TraceTable)
			b.Str(unix.NFTA_RULE_CHAIN, chain.name)
			list := b.Nest(unix.NFTA_RULE_EXPRESSIONS)
			if err := b.expressions(unix.NFPROTO_INET, f.expressions(family)); err != nil {
				return nil, err
			}
			b.Close(list)
			b.End()
		}
	}
	b.Message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
	return b.Buf, nil
}

// families returns those that the addresses leave.
func (f TraceFilter) families() []rules.Family {
	for _, p := range []netip.Prefix{f.From, f.To} {
		if p.IsValid() {
			return []rules.Family{rules.FamilyOf(p.Addr())}
		}
	}
	return rules.Families[:]
}

func (f TraceFilter) expressions(family rules.Family) []expr.Any {
	out := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{NFProto(family)}, false),
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ctStateNew), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
	if f.From.IsValid() {
		out = append(out, matchPrefix(family, true, f.From, false)...)
	}
	if f.To.IsValid() {
		out = append(out, matchPrefix(family, false, f.To, false)...)
	}
	if f.Protocol != 0 {
		out = append(out, loadL4(0), equal([]byte{byte(f.Protocol)}, false))
	}
	if f.ToPort != 0 {
		const offset = 2
		out = append(out, loadPort(register(0), offset), equal(binary.BigEndian.AppendUint16(nil, f.ToPort), false))
	}
	return append(out, &expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1})
}

// ParseTrace reads an event; false if the message is none.
func ParseTrace(m nfnetlink.Message) (TraceEvent, bool) {
	if m.Type != unix.NFNL_SUBSYS_NFTABLES<<8|traceMessage {
		return TraceEvent{}, false
	}
	return parseTrace(m.Body()), true
}

func parseTrace(v nfnetlink.Data) TraceEvent {
	var e TraceEvent
	var kind, family uint32
	var network, transport []byte
	verdict := uint32(1)
	for typ, v := range v.Attributes() {
		switch typ {
		case traceAttrTable:
			e.Table = v.Text()
		case traceAttrChain:
			e.Chain = v.Text()
		case traceAttrType:
			kind = v.U32()
		case traceAttrID:
			e.ID = v.U32()
		case traceAttrNetwork:
			network = v
		case traceAttrTransport:
			transport = v
		case traceAttrNfproto:
			family = v.U32()
		case traceAttrVerdict:
			for typ, v := range v.Attributes() {
				if typ == unix.NFTA_VERDICT_CODE {
					verdict = v.U32()
				}
			}
		}
	}
	e.Dropped = kind == traceTypeRule && verdict&0xff == verdictDropped
	e.parseHeaders(family, network, transport)
	return e
}

func (e *TraceEvent) parseHeaders(family uint32, network, transport []byte) {
	if len(transport) < 4 {
		return
	}
	var src, dst netip.Addr
	switch {
	case family == unix.NFPROTO_IPV4 && len(network) >= 20:
		e.Protocol = rules.Protocol(network[9])
		src, _ = netip.AddrFromSlice(network[12:16])
		dst, _ = netip.AddrFromSlice(network[16:20])
	case family == unix.NFPROTO_IPV6 && len(network) >= 40:
		e.Protocol = rules.Protocol(network[6])
		src, _ = netip.AddrFromSlice(network[8:24])
		dst, _ = netip.AddrFromSlice(network[24:40])
	default:
		return
	}
	e.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(transport))
	e.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(transport[2:]))
}
