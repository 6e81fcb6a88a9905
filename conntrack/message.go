// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// Message types and attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	msgGet      = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	msgDelete   = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
	msgGetStats = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5

	attrTupleOrig  = 1
	attrTupleReply = 2
	attrStatus     = 3
	attrProtoInfo  = 4
	attrCountOrig  = 9
	attrCountReply = 10
	attrID         = 12
	attrZone       = 18
	attrFilter     = 25
	attrStatusMask = 26

	attrTupleIP    = 1
	attrTupleProto = 2
	attrTupleZone  = 3

	attrV4Src = 1
	attrV4Dst = 2
	attrV6Src = 3
	attrV6Dst = 4

	attrProtoNum = 1
	attrSrcPort  = 2
	attrDstPort  = 3

	attrFilterOrigFlags = 1

	attrInfoTCP  = 1
	attrInfoSCTP = 3
	attrState    = 1 // of both

	attrStatsEntries    = 1
	attrStatsMaxEntries = 2
)

// parts says which parts of a tuple are in a message: the bits of
// CTA_FILTER_ORIG_FLAGS, which the kernel keeps in net/netfilter/nf_internals.h.
type parts uint32

const (
	partSrcAddr parts = 1 << 0
	partDstAddr parts = 1 << 1
	partProto   parts = 1 << 3
	partSrcPort parts = 1 << 4
	partDstPort parts = 1 << 5
	partsAll          = partSrcAddr | partDstAddr | partProto | partSrcPort | partDstPort
)

// request is a request that is being written.
type request struct{ *nfnetlink.Builder }

func newRequest(typ, flags uint16, family uint8) request {
	return request{nfnetlink.Request(typ, flags, family)}
}

// tuple writes a tuple, in the zone of its direction only, if that is not 0.
func (r request) tuple(typ uint16, proto rules.Protocol, t Tuple, has parts, zone uint16) {
	tuple := r.Nest(typ)
	ip := r.Nest(attrTupleIP)
	if has&partSrcAddr != 0 {
		r.addr(t.Src.Addr(), attrV4Src, attrV6Src)
	}
	if has&partDstAddr != 0 {
		r.addr(t.Dst.Addr(), attrV4Dst, attrV6Dst)
	}
	r.Close(ip)
	l4 := r.Nest(attrTupleProto)
	r.Bytes(attrProtoNum, byte(proto))
	if has&partSrcPort != 0 {
		r.U16(attrSrcPort, t.Src.Port())
	}
	if has&partDstPort != 0 {
		r.U16(attrDstPort, t.Dst.Port())
	}
	r.Close(l4)
	if zone != 0 {
		r.U16(attrTupleZone, zone)
	}
	r.Close(tuple)
}

func (r request) addr(a netip.Addr, type4, type6 uint16) {
	if a.Is4() {
		r.Bytes(type4, a.AsSlice()...)
		return
	}
	r.Bytes(type6, a.AsSlice()...)
}

// dumpRequest asks for all entries of the query's family, and leaves the rest to
// the reader.
func dumpRequest(q query) request { return newRequest(msgGet, unix.NLM_F_DUMP, q.family) }

// filteredDumpRequest asks for the entries that the query selects.
func filteredDumpRequest(q query) request {
	r := dumpRequest(q)
	has := partProto
	if q.addr.Is4() { // not IPv6: see the package's documentation
		has |= partDstAddr
	}
	if q.port != 0 {
		has |= partDstPort
	}
	r.tuple(attrTupleOrig, q.proto, Tuple{Dst: netip.AddrPortFrom(q.addr, q.port)}, has, 0)
	filter := r.Nest(attrFilter)
	r.Bytes(attrFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, uint32(has))...)
	r.Close(filter)
	if q.unanswered {
		r.U32(attrStatus, 0)
		r.U32(attrStatusMask, StatusSeenReply)
	}
	return r
}

// deleteRequest asks to delete the entry of the flow, and none that came after it.
func deleteRequest(f Flow) request {
	r := newRequest(msgDelete, unix.NLM_F_ACK, familyOf(f.Orig.Dst.Addr()))
	r.whole(f)
	if f.ID != 0 {
		r.U32(attrID, f.ID)
	}
	return r
}

// whole writes the original tuple of a flow and its zones: those of one entry.
func (r request) whole(f Flow) {
	both, orig, _ := f.Zones.split()
	r.tuple(attrTupleOrig, f.Protocol, f.Orig, partsAll, orig)
	if both != 0 {
		r.U16(attrZone, both)
	}
}

// split returns zones as the kernel has them: one for both directions, or one for one of them.
func (z Zones) split() (both, orig, reply uint16) {
	if z.Orig == z.Reply {
		return z.Orig, 0, 0
	}
	return 0, z.Orig, z.Reply
}

// decodeFlow reads an entry. It returns false for those without ports, which are not for
// this package.
func decodeFlow(data nfnetlink.Data) (Flow, bool) {
	var f Flow
	orig, reply := false, false
	for typ, value := range data.Attributes() {
		switch typ {
		case attrTupleOrig:
			f.Protocol, f.Orig, orig = decodeTuple(value, &f.Zones.Orig)
		case attrTupleReply:
			_, f.Reply, reply = decodeTuple(value, &f.Zones.Reply)
		case attrStatus:
			f.Status = value.U32()
		case attrProtoInfo:
			f.State = decodeState(value)
		case attrCountOrig, attrCountReply:
			f.Bytes += decodeBytes(value)
		case attrID:
			f.ID = value.U32()
		case attrZone:
			f.Zones = Zones{value.U16(), value.U16()}
		}
	}
	return f, orig && reply
}

// decodeState reads the state of a connection.
func decodeState(data nfnetlink.Data) uint8 {
	for typ, value := range data.Attributes() {
		if typ != attrInfoTCP && typ != attrInfoSCTP {
			continue
		}
		for typ, value := range value.Attributes() {
			if typ == attrState && len(value) == 1 {
				return value[0]
			}
		}
	}
	return 0
}

// decodeBytes reads the counter of a direction.
func decodeBytes(data nfnetlink.Data) uint64 {
	const attrBytes = 2
	for typ, value := range data.Attributes() {
		if typ == attrBytes {
			return value.U64()
		}
	}
	return 0
}

// decodeTuple reads a tuple, and the zone of its direction if it has one of its own.
func decodeTuple(data nfnetlink.Data, zone *uint16) (proto rules.Protocol, t Tuple, ok bool) {
	var src, dst netip.Addr
	var sport, dport uint16
	ports := 0
	for typ, value := range data.Attributes() {
		switch typ {
		case attrTupleIP:
			src, dst = decodeAddrs(value)
		case attrTupleProto:
			for typ, value := range value.Attributes() {
				switch {
				case typ == attrProtoNum && len(value) == 1:
					proto = rules.Protocol(value[0])
				case typ == attrSrcPort && len(value) == 2:
					sport, ports = value.U16(), ports+1
				case typ == attrDstPort && len(value) == 2:
					dport, ports = value.U16(), ports+1
				}
			}
		case attrTupleZone:
			*zone = value.U16()
		}
	}
	t = Tuple{netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)}
	return proto, t, src.IsValid() && dst.IsValid() && ports == 2
}

func decodeAddrs(data nfnetlink.Data) (src, dst netip.Addr) {
	for typ, value := range data.Attributes() {
		a, _ := netip.AddrFromSlice(value)
		switch typ {
		case attrV4Src, attrV6Src:
			src = a
		case attrV4Dst, attrV6Dst:
			dst = a
		}
	}
	return src, dst
}
