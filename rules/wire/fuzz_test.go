// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// randomState is the state for some services of all kinds.
func randomState(counted bool) rules.State {
	w := rulestest.NewWorld(1)
	w.Affinity, w.Count = true, counted
	for range 30 {
		w.Step()
	}
	d := rules.NewDesired(w.Config(), w.Node())
	d.Update(w.All())
	return d.State()
}

// FuzzMessages: every reader of the kernel's messages takes any bytes. What it makes of a rule is our rule, to the
// last expression, or foreign; what is said of it has a text.
func FuzzMessages(f *testing.F) {
	b := &Batch{}
	tx := rules.Diff(rules.State{Name: rules.DefaultTable}, randomState(false))
	for _, op := range tx.Ops() {
		b.Begin(rules.DefaultTable)
		if err := b.Add(&op, func() error { return nil }); err != nil {
			f.Fatal(err)
		}
		if len(b.Buf) < 2000 {
			f.Add(append([]byte(nil), b.Buf...))
		}
	}
	b.Begin(rules.DefaultTable)
	single := rules.SetID{Kind: rules.Single}
	b.elementMessage(&rules.Op{Kind: rules.AddElements, Set: single, Elements: []rules.Element{{}, {}}}, unix.NFT_MSG_NEWSETELEM, 0, 0, 2)
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = nfnetlink.EachMessage(data, func(m nfnetlink.Message) {
			m.Flags |= unix.NLM_F_ACK_TLVS
			if e := m.Err(); e != nil {
				if o, ok := b.Object(1, e.Offset); !ok || o.Element == nil {
					t.Errorf("an error at %d is about %+v", e.Offset, o)
				}
			}
			_, _ = ParseTrace(m)
			for _, family := range rules.Families {
				read(t, family, m.Body())
			}
		})
	})
}

// read gives the attributes of an object to all that read some.
func read(t *testing.T, f rules.Family, v nfnetlink.Data) {
	_ = parseTrace(v)
	_, _ = ParseTable(v)
	for _, l := range GetObjects(f, rules.DefaultTable) {
		_, _ = l.Parse(v)
	}
	_, chain, _ := ParseChain(v)
	set := ParseSet(v)
	id, ok := rules.ParseSetID(set.Name)
	if ok {
		EachElement(f, id.Kind, v, func(Element) {})
	}
	for _, kind := range []rules.SetKind{rules.Endpoints, rules.Single, rules.ServiceIPs, rules.Sources, rules.Affinity, rules.Protocols} {
		EachElement(f, kind, v, func(Element) {})
	}
	_, _, rule := ParseRule(f, v)
	_ = rule.Text(f)
	chain.Rules = append(chain.Rules, rule)
	table := rules.NewTable()
	table.Chains[chain.Name] = chain
	s := rules.State{Name: rules.DefaultTable}
	s.Tables[f] = table
	if err := s.WriteText(io.Discard); err != nil {
		t.Error(err)
	}
}
