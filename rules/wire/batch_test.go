// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// TestOffsets: an error is about some element of its message, wherever the kernel says it is.
func TestOffsets(t *testing.T) {
	op := &rules.Op{Kind: rules.AddElements, Set: rules.SetID{Kind: rules.Single}, Elements: []rules.Element{{}, {}}}
	b := &Batch{}
	b.Begin(rules.DefaultTable)
	b.elementMessage(op, unix.NFT_MSG_NEWSETELEM, 0, 0, 2)
	for _, offset := range []int{0, 1, 0x201, 0x30201, 0xffffffff} {
		if o, ok := b.Object(1, offset); !ok || o.Element == nil {
			t.Errorf("offset %d: %+v", offset, o)
		}
	}
	for _, message := range []int{-1, 0, 2} {
		if o, ok := b.Object(message, 0); ok {
			t.Errorf("message %d is about %+v, want the whole batch", message, o)
		}
	}
}

// TestCut: the parts of a batch that was cut are what was written, each message is about its object.
func TestCut(t *testing.T) {
	tx := rules.Diff(rules.State{Name: rules.DefaultTable}, randomState(true))
	whole, first := &Batch{}, &Batch{}
	whole.Begin(rules.DefaultTable)
	first.Begin(rules.DefaultTable)
	var mark Mark
	for i, op := range tx.Ops() {
		for _, b := range []*Batch{whole, first} {
			if err := b.Add(&op, func() error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if i == tx.Len()/2 {
			mark = first.Mark()
		}
	}
	rest := first.Cut(mark)
	begin := nfnetlink.HeaderLen
	got := append([]byte(nil), first.Buf...)
	n := len(first.refs)
	first.BeginWith(rest)
	if got = append(got, first.Buf[begin:]...); !bytes.Equal(got, whole.Buf) {
		t.Errorf("%d bytes in two parts differ from %d in one", len(got), len(whole.Buf))
	}
	for i := range first.refs {
		got, _ := first.Object(1+i, 0)
		want, _ := whole.Object(1+n+i, 0)
		if got.String() != want.String() {
			t.Errorf("message %d of the rest is about %s, want %s", i, got, want)
		}
	}
}

// TestTables: each message is about its own table.
func TestTables(t *testing.T) {
	b := &Batch{}
	b.Begin("a")
	b.DeleteTable(rules.IPv4)
	for _, name := range []string{"b", "c"} {
		b.In(name)
		b.DeleteTable(rules.IPv6)
	}
	for i, want := range []string{"table ip a", "table ip6 b", "table ip6 c"} {
		if o, ok := b.Object(1+i, 0); !ok || o.String() == "" || !bytes.Contains([]byte(o.String()), []byte(want)) {
			t.Errorf("message %d is about %q, want %s", 1+i, o, want)
		}
	}
}
