// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// fakeKernel answers requests on the other end of a socket, until the test ends, with what answer returns.
func fakeKernel(t *testing.T, answer func(n int, seq uint32) [][]byte) *Conn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &Conn{socket: &socket{fd: fds[0], buf: make([]byte, recvBuffer)}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, recvBuffer)
		for n := 1; ; n++ {
			if got, err := unix.Read(fds[1], buf); err != nil || got == 0 {
				return
			}
			for _, datagram := range answer(n, binary.NativeEndian.Uint32(buf[8:])) {
				if _, err := unix.Write(fds[1], datagram); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.Close()
		<-done
		_ = unix.Close(fds[1])
	})
	return c
}

// entry is a message of a dump with a flow.
func entry(seq uint32, flags uint16, f Flow) []byte {
	m := newMessage(msgNew, unix.NLM_F_MULTI|flags, familyOf(f.Orig.Dst.Addr()))
	m.tuple(attrTupleOrig, f.Protocol, f.Orig, partsAll, 0)
	m.tuple(attrTupleReply, f.Protocol, f.Reply, partsAll, 0)
	m.setSeq(seq)
	return m
}

// end is the end of a dump.
func end(seq uint32, flags uint16) []byte {
	m := newMessage(unix.NLMSG_DONE, unix.NLM_F_MULTI|flags, 0)
	m.setSeq(seq)
	return m
}

// A dump that the kernel says it could not finish in one state is made again: entries may have been
// missed.
func TestInterruptedDumps(t *testing.T) {
	first, second := table()[0], table()[1]
	second.Status = 0 // which entries here do not have
	q := queries(rules.Frontend{Addr: first.Orig.Dst.Addr(), Protocol: first.Protocol, Port: first.Orig.Dst.Port()})[0]
	for name, row := range map[string]struct {
		interrupted int // of so many dumps
		inEntry     bool
		dumps       int
		fails       bool
	}{
		"never":         {0, true, 1, false},
		"in an entry":   {1, true, 2, false},
		"at the end":    {2, false, 3, false},
		"every time":    {1000, true, dumpTries, true},
		"but for once":  {dumpTries - 1, false, dumpTries, false},
		"once too many": {dumpTries, false, dumpTries, true},
	} {
		t.Run(name, func(t *testing.T) {
			var dumps atomic.Int32
			c := fakeKernel(t, func(n int, seq uint32) [][]byte {
				dumps.Add(1)
				var inEntry, atEnd uint16
				if n <= row.interrupted {
					if row.inEntry {
						inEntry = unix.NLM_F_DUMP_INTR
					} else {
						atEnd = unix.NLM_F_DUMP_INTR
					}
					return [][]byte{entry(seq, inEntry, first), end(seq, atEnd)}
				}
				return [][]byte{entry(seq, 0, first), entry(seq, 0, second), end(seq, 0)}
			})
			seen := map[Flow]bool{}
			err := c.dump(t.Context(), q, func(f Flow) { seen[f] = true })
			if (err != nil) != row.fails || row.fails && !errors.Is(err, errInterrupted) {
				t.Errorf("error %v, want one: %t", err, row.fails)
			}
			if int(dumps.Load()) != row.dumps || !seen[first] || seen[second] == row.fails {
				t.Errorf("%d dumps, want %d; saw %v", dumps.Load(), row.dumps, seen)
			}
		})
	}
}
