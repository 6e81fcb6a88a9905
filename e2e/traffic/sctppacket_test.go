// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSCTPRoundTrip(t *testing.T) {
	for _, want := range []sctpPacket{
		{source: 1, destination: 65535, chunk: chunkInit, initiateTag: 1},
		{source: 40000, destination: 80, tag: 0xfffffffe, chunk: chunkInitAck, initiateTag: 7, cookie: []byte("seven b")},
		{source: 40000, destination: 80, tag: 1, chunk: chunkInitAck, initiateTag: 7, cookie: []byte("multiple of four")},
	} {
		b := want.marshal()
		if len(b)%4 != 0 {
			t.Errorf("%d bytes are no multiple of 4", len(b))
		}
		got, err := parseSCTP(b)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(sctpPacket{})); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
	}
}

// The check value of CRC-32C (RFC 3720, B.4) over 32 zero bytes, as the field has it.
func TestSCTPChecksum(t *testing.T) {
	if got := checksum(make([]byte, 32)); got != 0x8a9136aa {
		t.Errorf("checksum %08x, want 8a9136aa", got)
	}
}

func TestSCTPEveryBitCounts(t *testing.T) {
	good := sctpPacket{source: 1, destination: 2, tag: 3, chunk: chunkInitAck, initiateTag: 4, cookie: []byte("cookie")}.marshal()
	for i := range len(good) * 8 {
		bad := append([]byte(nil), good...)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := parseSCTP(bad); !errors.Is(err, errChecksum) {
			t.Errorf("bit %d turned: %v, want %v", i, err, errChecksum)
		}
	}
}

func TestSCTPRefusesOddPackets(t *testing.T) {
	good := sctpPacket{source: 1, destination: 2, chunk: chunkInit, initiateTag: 4, cookie: []byte("cookie")}.marshal()
	for name, change := range map[string]func(b []byte) []byte{
		"too short for a header": func(b []byte) []byte { return b[:11] },
		"no chunk":               func(b []byte) []byte { return b[:12] },
		"chunk cut off":          func(b []byte) []byte { return b[:28] },
		"other chunk":            func(b []byte) []byte { b[12] = 6; return b },
		"chunk too long":         func(b []byte) []byte { b[15] = 200; return b },
		"chunk too small":        func(b []byte) []byte { b[15] = 4; return b },
		"zero tag":               func(b []byte) []byte { clear(b[16:20]); return b },
		"parameter too long":     func(b []byte) []byte { b[35] = 99; return b },
		"parameter of no length": func(b []byte) []byte { b[35] = 0; return b },
	} {
		b := change(append([]byte(nil), good...))
		if len(b) >= commonHeader {
			binary.LittleEndian.PutUint32(b[8:], checksum(b))
		}
		if p, err := parseSCTP(b); err == nil || errors.Is(err, errChecksum) {
			t.Errorf("%s: %+v, %v, want an error other than a wrong checksum", name, p, err)
		}
	}
}
