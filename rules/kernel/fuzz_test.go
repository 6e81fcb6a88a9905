// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// FuzzMessages: every reader of the kernel's messages takes any bytes. What it makes of a rule is our rule, to the
// last expression, or foreign; what is said of it has a text.
func FuzzMessages(f *testing.F) {
	state := randomState(true)
	b := &batch{table: rules.DefaultTable}
	tx := rules.Diff(rules.State{Name: rules.DefaultTable}, state)
	for _, op := range tx.Ops() {
		b.reset()
		if err := b.units(&op, func() error { return nil }); err != nil {
			f.Fatal(err)
		}
		if len(b.Buf) < 2000 {
			f.Add(append([]byte(nil), b.Buf...))
		}
	}
	b.reset()
	b.elementMessage(&rules.Op{Kind: rules.AddElements, Set: singleSet, Elements: []rules.Element{{}, {}}}, unix.NFT_MSG_NEWSETELEM, 0, 0, 2)
	f.Fuzz(func(t *testing.T, data []byte) {
		var c changes
		_ = nfnetlink.EachMessage(data, func(m nfnetlink.Message) {
			c.event(m, rules.DefaultTable)
			if _, ok := newGeneration(m); ok {
				c.commit(process(m))
			}
			m.Flags |= unix.NLM_F_ACK_TLVS
			if e := m.Err(); e != nil {
				var a answer
				b.note(&a, 1, e)
				_ = a.refusal().Error()
			}
			for _, family := range rules.Families {
				read(t, family, m.Body())
			}
		})
		c.touched()
	})
}

// read gives the attributes of an object to all that read some.
func read(t *testing.T, f rules.Family, v nfnetlink.Data) {
	_ = parseTrace(v)
	_, chain, _ := parseChain(v)
	set := parseSet(v)
	id, ok := rules.ParseSetID(set.name)
	if ok {
		eachElement(f, id.Kind, v, func(element) {})
	}
	for _, kind := range []rules.SetKind{rules.Endpoints, rules.Single, rules.ServiceIPs, rules.Sources, rules.Affinity, rules.Protocols} {
		eachElement(f, kind, v, func(element) {})
	}
	for typ, v := range v.Attributes() {
		if typ != unix.NFTA_RULE_EXPRESSIONS {
			continue
		}
		exprs := parseExpressions(f, v)
		rule := decodeRule(f, exprs)
		_ = rule.Text(f)
		chain.Rules = append(chain.Rules, rule)
	}
	table := rules.NewTable()
	table.Chains[chain.Name] = chain
	s := rules.State{Name: rules.DefaultTable}
	s.Tables[f] = table
	if err := s.WriteText(io.Discard); err != nil {
		t.Error(err)
	}
}
