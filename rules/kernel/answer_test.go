// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
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
			var b builder
			b.message(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, nfproto(rules.IPv4), h.sock.nextSeq())
			b.str(unix.NFTA_TABLE_NAME, tt.table)
			b.end()
			if err := h.sock.send(b.buf); err != nil { // and the answer is not read
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
	h.Kernel.watch = &Watch{kernel: h.Kernel, sock: &socket{fd: -1}, changed: make(chan struct{}, 1)}
	tx := d.Update(services(rules.IPv4, 2000, 3))
	if tx.Elements() < manyElements {
		t.Fatalf("only %d elements", tx.Elements())
	}
	if err := h.Apply(tx); !errors.Is(err, unix.EBADF) {
		t.Errorf("error %v, want that of the socket", err)
	}
	h.Kernel.watch = nil
	wantSame(t, h.read(t, rules.DefaultTable), d.State())
}

// TestShortAttributes: attributes of errors that are shorter than they should be are left out.
func TestShortAttributes(t *testing.T) {
	op := &rules.Op{Kind: rules.AddElements, Set: singleSet, Elements: []rules.Element{{}, {}}}
	for _, offset := range [][]byte{nil, {1}, {1, 2}, {1, 2, 3}, {0xff, 0xff, 0xff, 0xff}} {
		b := &batch{table: rules.DefaultTable, sock: &socket{}}
		b.reset()
		b.elementMessage(op, unix.NFT_MSG_NEWSETELEM, 0, 0, 2)
		var attrs builder
		attrs.bytes(unix.NLMSGERR_ATTR_OFFS, offset)
		attrs.bytes(unix.NLMSGERR_ATTR_MSG, nil)
		data := append(make([]byte, 4+unix.NLMSG_HDRLEN), attrs.buf...)
		var a answer
		b.note(&a, message{flags: unix.NLM_F_ACK_TLVS, seq: b.first, data: data}, unix.ENOENT)
		if len(a.objects) != 1 || a.objects[0].Element == nil {
			t.Errorf("offset % x: %+v", offset, a)
		}
	}
	if got := host32of(binary.NativeEndian.AppendUint32(nil, 7)); got != 7 {
		t.Errorf("read %d, want 7", got)
	}
}
