// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// FuzzEvents: any bytes are events, or none, and answers to a transaction.
func FuzzEvents(f *testing.F) {
	b := &wire.Batch{}
	tx := rules.Diff(rules.State{Name: rules.DefaultTable}, randomState(true))
	for _, op := range tx.Ops() {
		b.Begin(rules.DefaultTable)
		if err := b.Add(&op, func() error { return nil }); err != nil {
			f.Fatal(err)
		}
		if len(b.Buf) < 2000 {
			f.Add(append([]byte(nil), b.Buf...))
		}
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		var c changes
		_ = nfnetlink.EachMessage(data, func(m nfnetlink.Message) {
			c.event(m, rules.DefaultTable)
			if _, ok := newGeneration(m); ok {
				c.commit(process(m))
			}
			m.Flags |= unix.NLM_F_ACK_TLVS
			if e := m.Err(); e != nil {
				var a answer
				a.note(b, 1, e)
				_ = a.refusal().Error()
			}
		})
		c.touched()
	})
}
