// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// Priorities of the trace's chains. Connection tracking is at -200; our chains and others' translate from -150 on.
const (
	traceFirst   = math.MinInt32 + 1
	traceNew     = -150
	traceAnswers = -149
	traceLast    = math.MaxInt32 - 1
)

const (
	traceMessage   = 17 // NFT_MSG_TRACE
	ctStateNew     = 8  // NF_CT_STATE_BIT(IP_CT_NEW)
	ctStateRelated = 4  // NF_CT_STATE_BIT(IP_CT_RELATED)
	verdictDropped = 0  // NF_DROP
)

// The kinds of events, enum nft_trace_types.
const (
	traceTypePolicy = 1
	traceTypeRule   = 3
)

// Attributes of NFT_MSG_TRACE, enum nft_trace_attributes.
const (
	traceAttrTable     = 1
	traceAttrChain     = 2
	traceAttrRule      = 3
	traceAttrType      = 4
	traceAttrVerdict   = 5
	traceAttrID        = 6
	traceAttrNetwork   = 8
	traceAttrTransport = 9
	traceAttrNfproto   = 15
	traceAttrPolicy    = 16
	traceAttrCtID      = 18
)

// traceChain is a chain of the trace's table.
type traceChain struct {
	name     string
	hook     uint32
	priority int32
	// choose returns what is traced from there in a family, drop what is traced no more.
	choose, drop func(TraceFilter, rules.Family) [][]expr.Any
}

// traceChains returns the chains: those that choose packets, and at each hook those that tell that packets come by.
func traceChains() (out []traceChain) {
	none := func(TraceFilter, rules.Family) [][]expr.Any { return nil }
	for _, h := range []struct {
		name   string
		hook   uint32
		source bool // packets begin here
	}{
		{TracePrerouting, unix.NF_INET_PRE_ROUTING, true}, {TraceInput, unix.NF_INET_LOCAL_IN, false}, {TraceForward, unix.NF_INET_FORWARD, false},
		{TraceOutput, unix.NF_INET_LOCAL_OUT, true}, {TracePostrouting, unix.NF_INET_POST_ROUTING, false},
	} {
		first := none
		if h.source {
			first = TraceFilter.firstSegments
			out = append(out, traceChain{TraceNew + h.name, h.hook, traceNew, TraceFilter.otherNew, TraceFilter.firstAnswers},
				traceChain{TraceAnswers + h.name, h.hook, traceAnswers, TraceFilter.answers, none})
		}
		out = append(out, traceChain{TraceFirst + h.name, h.hook, traceFirst, first, none}, traceChain{TraceLast + h.name, h.hook, traceLast, none, none})
	}
	return out
}

// Table returns the batch that adds the table with the rules that choose.
func (f TraceFilter) Table() ([]byte, error) {
	b := &builder{}
	b.Message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_ACK, unix.NFPROTO_INET)
	b.Str(unix.NFTA_TABLE_NAME, TraceTable)
	b.U32(unix.NFTA_TABLE_FLAGS, tableOwner)
	b.End()
	for _, chain := range traceChains() {
		b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_INET)
		b.Str(unix.NFTA_CHAIN_TABLE, TraceTable)
		b.Str(unix.NFTA_CHAIN_NAME, chain.name)
		hook := b.Nest(unix.NFTA_CHAIN_HOOK)
		b.U32(unix.NFTA_HOOK_HOOKNUM, chain.hook)
		b.U32(unix.NFTA_HOOK_PRIORITY, uint32(chain.priority)) //nolint:gosec // the attribute has the bits
		b.Close(hook)
		b.Str(unix.NFTA_CHAIN_TYPE, "filter")
		b.End()
		for _, family := range f.families() {
			for traced, matches := range map[byte][][]expr.Any{1: chain.choose(f, family), 0: chain.drop(f, family)} {
				for _, match := range matches {
					if err := b.traceRule(chain.name, family, match, traced); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	b.Message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
	return b.Buf, nil
}

// traceRule adds a rule that has the packets of a family that it matches traced (1) or not (0).
func (b *builder) traceRule(chain string, family rules.Family, match []expr.Any, traced byte) error {
	b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.NFPROTO_INET)
	b.Str(unix.NFTA_RULE_TABLE, TraceTable)
	b.Str(unix.NFTA_RULE_CHAIN, chain)
	list := b.Nest(unix.NFTA_RULE_EXPRESSIONS)
	all := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{NFProto(family)}, false)}
	all = append(all, match...)
	all = append(all, &expr.Immediate{Register: 1, Data: []byte{traced}}, &expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1})
	if err := b.expressions(unix.NFPROTO_INET, all); err != nil {
		return err
	}
	b.Close(list)
	b.End()
	return nil
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

// firstSegments matches the segments that begin TCP connections, and the answers to such. Connection tracking need not know
// them yet.
func (f TraceFilter) firstSegments(family rules.Family) [][]expr.Any {
	if f.Protocol != 0 && f.Protocol != rules.TCP {
		return nil
	}
	return append(f.firstAnswers(family), slices.Concat(isProtocol(byte(rules.TCP)), tcpFlags(FlagSYN|FlagRST|FlagACK, FlagSYN), f.packet(family)))
}

// firstAnswers matches answers to segments that begin TCP connections, of whatever connections: which ones were chosen only
// connection tracking tells. What drops answers before that is seen, and the others are not followed any further.
func (f TraceFilter) firstAnswers(rules.Family) [][]expr.Any {
	if f.Protocol != 0 && f.Protocol != rules.TCP {
		return nil
	}
	return [][]expr.Any{slices.Concat(isProtocol(byte(rules.TCP)), tcpFlags(FlagSYN|FlagRST|FlagACK, FlagSYN|FlagACK))}
}

// otherNew matches first packets of other protocols.
func (f TraceFilter) otherNew(family rules.Family) [][]expr.Any {
	protocol := []expr.Any{loadL4(0), equal([]byte{byte(rules.TCP)}, true)}
	switch f.Protocol {
	case 0:
	case rules.TCP:
		return nil
	default:
		protocol = isProtocol(byte(f.Protocol))
	}
	return [][]expr.Any{slices.Concat(protocol, matchCtBits(expr.CtKeySTATE, ctStateNew, true), f.packet(family))}
}

// answers matches what tells what became of a connection that was chosen: the first answer of TCP, and errors.
func (f TraceFilter) answers(family rules.Family) [][]expr.Any {
	reply := []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register(0)}, equal([]byte{replyDirection}, false)}
	icmp := byte(unix.IPPROTO_ICMP)
	if family == rules.IPv6 {
		icmp = unix.IPPROTO_ICMPV6
	}
	out := [][]expr.Any{slices.Concat(isProtocol(icmp), matchCtBits(expr.CtKeySTATE, ctStateRelated, true), f.connection(family))}
	if f.Protocol == 0 || f.Protocol == rules.TCP {
		for _, flag := range []byte{FlagSYN, FlagRST} {
			out = append(out, slices.Concat(isProtocol(byte(rules.TCP)), tcpFlags(flag, flag), reply, f.connection(family)))
		}
	}
	return out
}

func isProtocol(number byte) []expr.Any { return []expr.Any{loadL4(0), equal([]byte{number}, false)} }

// tcpFlags matches segments that have those flags of some.
func tcpFlags(some, set byte) []expr.Any {
	const offset = 13
	return []expr.Any{
		&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: register(0), Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 1},
		bitwise([]byte{some}, []byte{0}), equal([]byte{set}, false),
	}
}

// packet matches the packet's own addresses and ports.
func (f TraceFilter) packet(family rules.Family) (out []expr.Any) {
	for _, end := range []struct {
		source bool
		prefix netip.Prefix
		port   uint16
		offset uint32
	}{{true, f.From, f.FromPort, 0}, {false, f.To, f.ToPort, 2}} {
		if end.prefix.IsValid() {
			out = append(out, matchPrefix(family, end.source, end.prefix, false)...)
		}
		if end.port != 0 {
			out = append(out, loadPort(register(0), end.offset), equal(binary.BigEndian.AppendUint16(nil, end.port), false))
		}
	}
	return out
}

// connection matches the addresses and ports of the packet that began the connection.
func (f TraceFilter) connection(family rules.Family) (out []expr.Any) {
	src, dst := expr.CtKeySRCIP, expr.CtKeyDSTIP
	if family == rules.IPv6 {
		src, dst = expr.CtKeySRCIP6, expr.CtKeyDSTIP6
	}
	for _, end := range []struct {
		addr, port expr.CtKey
		prefix     netip.Prefix
		number     uint16
	}{{src, expr.CtKeyPROTOSRC, f.From, f.FromPort}, {dst, expr.CtKeyPROTODST, f.To, f.ToPort}} {
		if p := end.prefix; p.IsValid() {
			out = append(out, &expr.Ct{Register: register(0), Key: end.addr, Direction: expr.CtDirOriginal},
				bitwise(mask(p), make([]byte, len(mask(p)))), equal(p.Masked().Addr().AsSlice(), false))
		}
		if end.number != 0 {
			out = append(out, &expr.Ct{Register: register(0), Key: end.port, Direction: expr.CtDirOriginal},
				equal(binary.BigEndian.AppendUint16(nil, end.number), false))
		}
	}
	return out
}

// ParseTrace reads an event; false if the message is none.
func ParseTrace(m nfnetlink.Message) (TraceEvent, bool) {
	if m.Type != unix.NFNL_SUBSYS_NFTABLES<<8|traceMessage {
		return TraceEvent{}, false
	}
	e := parseTrace(m.Body())
	e.Family = familyNames[m.Family()]
	return e, true
}

func parseTrace(v nfnetlink.Data) TraceEvent {
	var e TraceEvent
	var kind, family uint32
	var network, transport []byte
	verdict, policy := uint32(1), uint32(1)
	for typ, v := range v.Attributes() {
		switch typ {
		case traceAttrTable:
			e.Table = v.Text()
		case traceAttrChain:
			e.Chain = v.Text()
		case traceAttrRule:
			e.Rule = v.U64()
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
		case traceAttrPolicy:
			policy = v.U32()
		case traceAttrCtID:
			e.Connection = v.U32()
		case traceAttrVerdict:
			for typ, v := range v.Attributes() {
				if typ == unix.NFTA_VERDICT_CODE {
					verdict = v.U32()
				}
			}
		}
	}
	e.Policy = kind == traceTypePolicy
	e.Dropped = kind == traceTypeRule && verdict&0xff == verdictDropped || e.Policy && policy == verdictDropped
	e.parseHeaders(family, network, transport)
	return e
}

func (e *TraceEvent) parseHeaders(family uint32, network, transport []byte) {
	if len(transport) < 8 {
		return
	}
	var src, dst netip.Addr
	var length uint16
	switch {
	case family == unix.NFPROTO_IPV4 && len(network) >= 20:
		e.Protocol = rules.Protocol(network[9])
		src, _ = netip.AddrFromSlice(network[12:16])
		dst, _ = netip.AddrFromSlice(network[16:20])
		length = binary.BigEndian.Uint16(network[2:])
	case family == unix.NFPROTO_IPV6 && len(network) >= 40:
		e.Protocol = rules.Protocol(network[6])
		src, _ = netip.AddrFromSlice(network[8:24])
		dst, _ = netip.AddrFromSlice(network[24:40])
		length = binary.BigEndian.Uint16(network[4:])
	default:
		return
	}
	e.Length = length
	if e.Protocol == unix.IPPROTO_ICMP && src.Is4() || e.Protocol == unix.IPPROTO_ICMPV6 && src.Is6() {
		e.Src, e.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
		e.parseICMP(src.Is6(), transport)
		return
	}
	e.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(transport))
	e.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(transport[2:]))
	if e.Protocol == rules.TCP && len(transport) >= 14 {
		e.TCP = TCPHeader{Seq: binary.BigEndian.Uint32(transport[4:]), Flags: transport[13]}
	}
}

// parseICMP reads the header, and the start of the packet that it is about, as far as traces have it: 12 bytes.
func (e *TraceEvent) parseICMP(v6 bool, transport []byte) {
	e.ICMP = ICMPHeader{Valid: true, Type: transport[0], Code: transport[1]}
	inner := transport[8:]
	switch {
	case len(inner) < 12:
	case v6:
		e.ICMP.Protocol, e.ICMP.Length = rules.Protocol(inner[6]), binary.BigEndian.Uint16(inner[4:])
	default:
		e.ICMP.Protocol, e.ICMP.Length = rules.Protocol(inner[9]), binary.BigEndian.Uint16(inner[2:])
	}
}
