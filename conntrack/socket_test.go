// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/nfnetlink/nfnetlinktest"
	"github.com/nftproxy/nftproxy/rules"
)

// entry is a message of a dump with a flow.
func entry(flags uint16, f Flow) []byte {
	m := newRequest(msgNew, flags, familyOf(f.Orig.Dst.Addr()))
	m.tuple(attrTupleOrig, f.Protocol, f.Orig, partsAll, 0)
	m.tuple(attrTupleReply, f.Protocol, f.Reply, partsAll, 0)
	m.End()
	return m.Buf
}

// TestInterruptedDeletion: a flow whose deletion the kernel refused is not counted as deleted.
func TestInterruptedDeletion(t *testing.T) {
	_, socket := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer { return nfnetlinktest.Answer{Err: unix.EINTR} })
	c := &Conn{socket: socket}
	if n, err := c.Delete(t.Context(), table()[:1]); n != 0 || !errors.Is(err, unix.EINTR) {
		t.Errorf("%d flows deleted (%v), want none and EINTR", n, err)
	}
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
		"every time":    {1000, true, nfnetlink.Tries, true},
		"but for once":  {nfnetlink.Tries - 1, false, nfnetlink.Tries, false},
		"once too many": {nfnetlink.Tries, false, nfnetlink.Tries, true},
	} {
		t.Run(name, func(t *testing.T) {
			dumps := 0
			_, socket := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer {
				if dumps++; dumps > row.interrupted {
					return nfnetlinktest.Answer{Entries: [][]byte{entry(0, first), entry(0, second)}}
				}
				if row.inEntry {
					return nfnetlinktest.Answer{Entries: [][]byte{entry(unix.NLM_F_DUMP_INTR, first)}}
				}
				return nfnetlinktest.Answer{Entries: [][]byte{entry(0, first)}, Interrupted: true}
			})
			c := &Conn{socket: socket}
			seen := map[Flow]bool{}
			err := c.dump(t.Context(), q, func(f Flow) { seen[f] = true })
			if (err != nil) != row.fails || row.fails && !errors.Is(err, nfnetlink.ErrInterrupted) {
				t.Errorf("error %v, want one: %t", err, row.fails)
			}
			if dumps != row.dumps || !seen[first] || seen[second] == row.fails {
				t.Errorf("%d dumps, want %d; saw %v", dumps, row.dumps, seen)
			}
		})
	}
}
