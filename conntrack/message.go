// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"

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

const headerLen = unix.NLMSG_HDRLEN + 4 // nlmsghdr and nfgenmsg

// message is a request. The socket fills in the sequence number.
type message []byte

func newMessage(typ, flags uint16, family uint8) message {
	m := make(message, headerLen, 256)
	binary.NativeEndian.PutUint16(m[4:], typ)
	binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_REQUEST)
	m[unix.NLMSG_HDRLEN] = family
	m.setLength()
	return m
}

func (m message) setLength() { binary.NativeEndian.PutUint32(m, uint32(len(m))) }

func (m message) setSeq(seq uint32) { binary.NativeEndian.PutUint32(m[8:], seq) }

// put appends an attribute.
func (m *message) put(typ uint16, value ...byte) {
	b := binary.NativeEndian.AppendUint16(*m, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	b = append(b, make([]byte, align(len(value))-len(value))...)
	*m = b
	m.setLength()
}

func (m *message) put16(typ, value uint16) { m.put(typ, byte(value>>8), byte(value)) }

func (m *message) put32(typ uint16, value uint32) {
	m.put(typ, binary.BigEndian.AppendUint32(nil, value)...)
}

// nest appends an attribute that holds the attributes that fill appends.
func (m *message) nest(typ uint16, fill func()) {
	start := len(*m)
	m.put(typ | unix.NLA_F_NESTED)
	fill()
	binary.NativeEndian.PutUint16((*m)[start:], uint16(len(*m)-start))
}

// tuple appends a tuple, in the zone of its direction only, if that is not 0.
func (m *message) tuple(typ uint16, proto rules.Protocol, t Tuple, has parts, zone uint16) {
	m.nest(typ, func() {
		m.nest(attrTupleIP, func() {
			if has&partSrcAddr != 0 {
				m.addr(t.Src.Addr(), attrV4Src, attrV6Src)
			}
			if has&partDstAddr != 0 {
				m.addr(t.Dst.Addr(), attrV4Dst, attrV6Dst)
			}
		})
		m.nest(attrTupleProto, func() {
			m.put(attrProtoNum, byte(proto))
			if has&partSrcPort != 0 {
				m.put16(attrSrcPort, t.Src.Port())
			}
			if has&partDstPort != 0 {
				m.put16(attrDstPort, t.Dst.Port())
			}
		})
		if zone != 0 {
			m.put16(attrTupleZone, zone)
		}
	})
}

func (m *message) addr(a netip.Addr, type4, type6 uint16) {
	if a.Is4() {
		m.put(type4, a.AsSlice()...)
		return
	}
	m.put(type6, a.AsSlice()...)
}

// dumpRequest asks for all entries of the query's family, and leaves the rest to
// the reader.
func dumpRequest(q query) message { return newMessage(msgGet, unix.NLM_F_DUMP, q.family) }

// filteredDumpRequest asks for the entries that the query selects.
func filteredDumpRequest(q query) message {
	m := dumpRequest(q)
	has := partProto
	if q.addr.Is4() { // not IPv6: see the package's documentation
		has |= partDstAddr
	}
	if q.port != 0 {
		has |= partDstPort
	}
	m.tuple(attrTupleOrig, q.proto, Tuple{Dst: netip.AddrPortFrom(q.addr, q.port)}, has, 0)
	m.nest(attrFilter, func() {
		m.put(attrFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, uint32(has))...)
	})
	if q.unanswered {
		m.put32(attrStatus, 0)
		m.put32(attrStatusMask, StatusSeenReply)
	}
	return m
}

// deleteRequest asks to delete the entry of the flow, and none that came after it.
func deleteRequest(f Flow) message {
	m := newMessage(msgDelete, unix.NLM_F_ACK, familyOf(f.Orig.Dst.Addr()))
	both, orig, _ := f.Zones.split()
	m.tuple(attrTupleOrig, f.Protocol, f.Orig, partsAll, orig)
	if both != 0 {
		m.put16(attrZone, both)
	}
	if f.ID != 0 {
		m.put32(attrID, f.ID)
	}
	return m
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
func decodeFlow(data []byte) (Flow, bool) {
	var f Flow
	orig, reply := false, false
	for typ, value := range attributes(data) {
		switch typ {
		case attrTupleOrig:
			f.Protocol, f.Orig, orig = decodeTuple(value, &f.Zones.Orig)
		case attrTupleReply:
			_, f.Reply, reply = decodeTuple(value, &f.Zones.Reply)
		case attrStatus:
			f.Status = uint32At(value)
		case attrID:
			f.ID = uint32At(value)
		case attrZone:
			f.Zones = Zones{uint16At(value), uint16At(value)}
		}
	}
	return f, orig && reply
}

// decodeTuple reads a tuple, and the zone of its direction if it has one of its own.
func decodeTuple(data []byte, zone *uint16) (proto rules.Protocol, t Tuple, ok bool) {
	var src, dst netip.Addr
	var sport, dport uint16
	ports := 0
	for typ, value := range attributes(data) {
		switch typ {
		case attrTupleIP:
			src, dst = decodeAddrs(value)
		case attrTupleProto:
			for typ, value := range attributes(value) {
				switch {
				case typ == attrProtoNum && len(value) == 1:
					proto = rules.Protocol(value[0])
				case typ == attrSrcPort && len(value) == 2:
					sport, ports = binary.BigEndian.Uint16(value), ports+1
				case typ == attrDstPort && len(value) == 2:
					dport, ports = binary.BigEndian.Uint16(value), ports+1
				}
			}
		case attrTupleZone:
			*zone = uint16At(value)
		}
	}
	t = Tuple{netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)}
	return proto, t, src.IsValid() && dst.IsValid() && ports == 2
}

func decodeAddrs(data []byte) (src, dst netip.Addr) {
	for typ, value := range attributes(data) {
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

// attributes yields types (without flags) and values. It ends at one that is malformed.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 4 {
			n := int(binary.NativeEndian.Uint16(b))
			if n < 4 || n > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n]) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

func uint16At(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

func uint32At(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func align(n int) int { return (n + 3) &^ 3 }
