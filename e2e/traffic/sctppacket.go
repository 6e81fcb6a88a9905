// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Chunk and parameter types of RFC 9260, sections 3.2 and 3.3.
const (
	chunkInit     = 1
	chunkInitAck  = 2
	paramCookie   = 7
	commonHeader  = 12 // ports, verification tag, checksum
	initFixed     = 20 // chunk header, tag, window, stream counts, initial TSN
	receiveWindow = 65536
	streams       = 10
)

var errChecksum = errors.New("wrong CRC32c")

// sctpPacket is an SCTP packet of one INIT or INIT ACK chunk.
type sctpPacket struct {
	source, destination uint16
	tag                 uint32 // verification tag: zero with INIT, else the other side's initiate tag
	chunk               byte
	initiateTag         uint32 // not zero
	cookie              []byte // state cookie; only in INIT ACK
}

// marshal returns the packet with its checksum.
func (p sctpPacket) marshal() []byte {
	b := make([]byte, commonHeader, 128)
	binary.BigEndian.PutUint16(b[0:], p.source)
	binary.BigEndian.PutUint16(b[2:], p.destination)
	binary.BigEndian.PutUint32(b[4:], p.tag)

	length := initFixed
	if p.cookie != nil {
		length += 4 + len(p.cookie)
	}
	b = append(b, p.chunk, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = binary.BigEndian.AppendUint32(b, p.initiateTag)
	b = binary.BigEndian.AppendUint32(b, receiveWindow)
	b = binary.BigEndian.AppendUint16(b, streams)
	b = binary.BigEndian.AppendUint16(b, streams)
	b = binary.BigEndian.AppendUint32(b, p.initiateTag) // initial TSN: any number
	if p.cookie != nil {
		b = binary.BigEndian.AppendUint16(b, paramCookie)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(p.cookie)))
		b = append(b, p.cookie...)
	}
	for len(b)%4 != 0 { // lengths do not count this padding
		b = append(b, 0)
	}
	binary.LittleEndian.PutUint32(b[8:], checksum(b))
	return b
}

// parseSCTP reads a packet. The ports are right even with an error, if there
// were any; errChecksum means that the rest is not to be trusted.
func parseSCTP(b []byte) (sctpPacket, error) {
	if len(b) < commonHeader {
		return sctpPacket{}, fmt.Errorf("parse SCTP packet: %d bytes are too few", len(b))
	}
	p := sctpPacket{
		source:      binary.BigEndian.Uint16(b[0:]),
		destination: binary.BigEndian.Uint16(b[2:]),
		tag:         binary.BigEndian.Uint32(b[4:]),
	}
	if got, want := binary.LittleEndian.Uint32(b[8:]), checksum(b); got != want {
		return p, fmt.Errorf("parse SCTP packet from port %d: %w: %08x, want %08x", p.source, errChecksum, got, want)
	}
	if err := p.parseChunk(b[commonHeader:]); err != nil {
		return p, fmt.Errorf("parse SCTP packet from port %d: %w", p.source, err)
	}
	return p, nil
}

func (p *sctpPacket) parseChunk(b []byte) error {
	if len(b) < initFixed {
		return fmt.Errorf("chunk of %d bytes, want an INIT or INIT ACK", len(b))
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	if b[0] != chunkInit && b[0] != chunkInitAck || length < initFixed || length > len(b) {
		return fmt.Errorf("chunk of type %d and length %d, want an INIT or INIT ACK", b[0], length)
	}
	p.chunk, p.initiateTag = b[0], binary.BigEndian.Uint32(b[4:])
	if p.initiateTag == 0 {
		return errors.New("initiate tag is zero")
	}
	for params := b[initFixed:length]; len(params) >= 4; {
		kind, n := binary.BigEndian.Uint16(params), int(binary.BigEndian.Uint16(params[2:]))
		if n < 4 || n > len(params) {
			return fmt.Errorf("parameter %d has length %d of %d", kind, n, len(params))
		}
		if kind == paramCookie {
			p.cookie = params[4:n]
		}
		params = params[min(len(params), (n+3)&^3):]
	}
	return nil
}

// checksum is the CRC32c of the packet with a checksum field of zero.
func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(0, table, b[:8])
	crc = crc32.Update(crc, table, []byte{0, 0, 0, 0})
	return crc32.Update(crc, table, b[commonHeader:])
}
