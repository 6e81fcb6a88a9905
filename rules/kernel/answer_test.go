// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/nfnetlink/nfnetlinktest"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// TestLeftoverAnswer: what is left of an earlier request's answer says nothing about a transaction.
func TestLeftoverAnswer(t *testing.T) {
	h := newHost(t)
	d := desired()
	h.load(t, d.State())
	for _, tt := range []struct {
		what  string
		table string // that is asked for
	}{
		{"a refusal", "theirs"},
		{"an acknowledgement", rules.DefaultTable},
	} {
		ask := func() {
			t.Helper()
			b := wire.GetTable(rules.IPv4, tt.table)
			b.End()
			if err := h.sock.Send(b.Buf); err != nil { // and the answer is not read
				t.Fatal(err)
			}
		}
		ask()
		if err := h.Apply(d.Update(services(rules.IPv4, 1, 3))); err != nil {
			t.Errorf("%s was left over: %v", tt.what, err)
		}
		ask()
		err := h.Apply(transaction(rules.Op{Kind: rules.DeleteSet, Foreign: "none"}))
		if !errors.Is(err, unix.ENOENT) || len(rules.RefusalOf(err).Objects) != 1 {
			t.Errorf("%s was left over: a refusal is read as %v", tt.what, err)
		}
		h.apply(t, d.Update([]rules.Owned{{Owner: services(rules.IPv4, 1, 3)[0].Owner}}))
	}
}

// TestRejoinFails: a watch that cannot go on after a large transaction is an error.
func TestRejoinFails(t *testing.T) {
	h := newHost(t)
	d := desired()
	h.load(t, d.State())
	_, closed := nfnetlinktest.New(nil)
	must(closed.Close())
	h.Kernel.watch = &Watch{kernel: h.Kernel, sock: closed, changed: make(chan struct{}, 1)}
	tx := d.Update(services(rules.IPv4, 2000, 3))
	if tx.Elements() < muchWork {
		t.Fatalf("only %d elements", tx.Elements())
	}
	if err := h.Apply(tx); !errors.Is(err, unix.EBADF) {
		t.Errorf("error %v, want that of the socket", err)
	}
	h.Kernel.watch = nil
	wantSame(t, h.read(t, rules.DefaultTable), d.State())
}

// TestLostAnswer: where errors about a transaction were lost, it was refused all the same. Where all that the kernel said was lost,
// it may have been carried out.
func TestLostAnswer(t *testing.T) {
	double, sock := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer { return nfnetlinktest.Answer{Err: unix.EEXIST} })
	k := &Kernel{conn: conn{sock: sock, limit: maxBatch}}
	tx := transaction(rules.Op{Kind: rules.AddTable})
	for room, want := range map[int]unix.Errno{0: unix.ENOBUFS, 1: unix.EEXIST} {
		double.Room(room)
		if err := k.Apply(tx); !errors.Is(err, want) || rules.RefusalOf(err).Untouched != (room > 0) {
			t.Errorf("with room for %d answers: %v, want an error with %v", room, err, want)
		}
	}
}

// TestCutShort: a listing that the kernel ended early is made again. It is not taken for the whole.
func TestCutShort(t *testing.T) {
	dumps := 0
	_, sock := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer {
		if dumps++; dumps == 1 {
			return nfnetlinktest.Answer{Err: unix.EINTR}
		}
		return nfnetlinktest.Answer{}
	})
	_, quiet := nfnetlinktest.New(nil)
	r := &reader{kernel: &conn{sock: sock}, table: rules.DefaultTable, events: &events{sock: quiet}}
	table := rules.NewTable()
	table.Sets[rules.SetID{Kind: rules.ClusterIPs}] = map[rules.Key]rules.Value{}
	if err := r.readSets(rules.IPv4, table); err != nil || dumps != 2 {
		t.Errorf("it was listed %d times (%v), want twice", dumps, err)
	}
}
