// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// scanTries is how often a scan is made at most.
const scanTries = 3

// chainsInPart is how many chains are handed over together.
const chainsInPart = 500

// Scan reads the tables of a name in parts, so that they are never in memory as a whole: those objects that things
// name, and everything if there are none. A reading during which others changed them begins anew, but not for ever:
// in the end some parts may be older than others. A Watch tells of what was changed meanwhile.
func (k *Kernel) Scan(table string, things []rules.Thing, to rules.Parts) (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, err := k.newReader(table, false)
	if err != nil {
		return err
	}
	defer r.close()
	all := rules.All(things)
	for range scanTries {
		to.Begin()
		var failed error // nil: all was read
		err = r.steady(func() error {
			for _, f := range rules.Families {
				s := &scan{reader: r, family: f, to: to}
				if failed = s.read(things, all); failed != nil {
					failed = fmt.Errorf("read table %s %s: %w", f, table, failed)
					return failed
				}
			}
			return nil
		})
		if !errors.Is(err, errChanged) && !errors.Is(err, nfnetlink.ErrInterrupted) && !errors.Is(err, nfnetlink.ErrCutShort) {
			return err
		}
		err = failed
	}
	return err
}

// scan reads the table of a family.
type scan struct {
	*reader
	family rules.Family
	to     rules.Parts
}

func (s *scan) read(things []rules.Thing, all bool) error {
	if all {
		return s.everything()
	}
	return s.some(things)
}

// part hands a part over.
func (s *scan) part(p rules.Part) {
	p.Family = s.family
	s.to.Part(p)
}

// everything reads the whole table.
func (s *scan) everything() error {
	head, err := s.readHead(s.family)
	if err != nil {
		return err
	}
	if head == nil {
		s.part(rules.Part{})
		return nil
	}
	chains, sets := head.Chains, slices.Collect(maps.Keys(head.Sets))
	affinity := head.Affinity
	head.Chains, head.Sets, head.Affinity = nil, nil, nil
	s.part(rules.Part{Table: head, Counting: true, Head: true})
	if err := s.chains(chains); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	for _, id := range sets {
		t := rules.NewTable()
		t.Counted = head.Counted
		t.Sets[id] = map[rules.Key]rules.Value{}
		if m, ok := affinity[id]; ok {
			t.Affinity[id] = m
		}
		if err := s.set(t, id, true); err != nil {
			return err
		}
	}
	return nil
}

// chains hands all chains over, with their rules, which the kernel lists chain by chain. It changes heads.
func (s *scan) chains(heads map[string]rules.Chain) error {
	t, last := rules.NewTable(), ""
	flush := func() {
		s.part(rules.Part{Table: t, Chains: slices.Collect(maps.Keys(t.Chains))})
		t = rules.NewTable()
	}
	err := s.readRules(s.family, "", func(chain string, r rules.Rule) {
		if chain != last && len(t.Chains) >= chainsInPart {
			flush()
		}
		last = chain
		c, ok := t.Chains[chain]
		if !ok {
			c = heads[chain]
			delete(heads, chain)
		}
		c.Rules = append(c.Rules, r)
		t.Chains[chain] = c
	})
	if complete(err) != nil {
		return err
	}
	maps.Copy(t.Chains, heads) // those without rules
	flush()
	return nil
}

// set reads a set's elements and hands it over.
func (s *scan) set(t *rules.Table, id rules.SetID, counting bool) error {
	if err := s.readSets(s.family, t); err != nil {
		return err
	}
	s.part(rules.Part{Table: t, Sets: []rules.SetID{id}, Counting: counting})
	return nil
}

// some reads what things name in the table. What is not there is no error.
func (s *scan) some(things []rules.Thing) error {
	t, chains := rules.NewTable(), []string(nil)
	keys := map[rules.SetID][]rules.Key{}
	for _, thing := range things {
		if thing.Family != s.family {
			continue
		}
		var err error
		switch thing.Kind {
		case rules.ThingTable:
			err = s.tableItself()
		case rules.ThingChain:
			chains = append(chains, thing.Name)
			err = s.chain(t, thing.Name)
		case rules.ThingSet:
			err = s.namedSet(thing.Name)
		case rules.ThingElement:
			if id, ok := rules.ParseSetID(thing.Name); ok {
				keys[id] = append(keys[id], thing.Key)
			}
		case rules.ThingOther:
			err = s.readObjects(s.family, t)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	for id, keys := range keys {
		t.Sets[id] = map[rules.Key]rules.Value{}
		for _, k := range keys {
			if err := s.element(t, id, k); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("element of %s: %w", id.Name(), err)
			}
		}
	}
	if len(chains)+len(keys)+len(t.Objects) > 0 {
		slices.Sort(chains)
		s.part(rules.Part{Table: t, Chains: slices.Compact(chains), Keys: keys})
	}
	return nil
}

// tableItself reads the table without what is in it.
func (s *scan) tableItself() error {
	t, _, err := s.readTableOnly(s.family)
	if err == nil {
		s.part(rules.Part{Table: t, Head: true})
	}
	return err
}

// chain adds a chain with its rules.
func (s *scan) chain(t *rules.Table, name string) error {
	var c rules.Chain
	err := s.ask(wire.GetChain(s.family, s.table, name), func(v nfnetlink.Data) {
		_, chain, odd := wire.ParseChain(v)
		c, t.Odd = chain, append(t.Odd, odd...)
	})
	if err != nil {
		return err
	}
	err = s.readRules(s.family, name, func(_ string, r rules.Rule) { c.Rules = append(c.Rules, r) })
	t.Chains[name] = c
	return complete(err)
}

// namedSet reads a set and its elements and hands it over.
func (s *scan) namedSet(name string) error {
	t := rules.NewTable()
	id, ours := rules.ParseSetID(name)
	part := rules.Part{Table: t}
	err := s.ask(wire.GetSet(s.family, s.table, name), func(v nfnetlink.Data) {
		set := wire.ParseSet(v)
		s.addSet(s.family, t, set)
		t.Counted = set.Counted()
	})
	if err == nil && len(t.Sets) > 0 {
		return s.set(t, id, id.Kind.Serves())
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if ours {
		part.Sets = []rules.SetID{id}
	}
	s.part(part)
	return nil
}

// element adds one element, if it is there.
func (s *scan) element(t *rules.Table, id rules.SetID, key rules.Key) error {
	return s.ask(wire.GetElement(s.family, s.table, id, key), func(v nfnetlink.Data) {
		wire.EachElement(s.family, id.Kind, v, func(e wire.Element) {
			if e.OddKey != "" {
				return // one with the key was asked for
			}
			if e.Stated && !id.Kind.Dynamic() && !id.Kind.Serves() {
				e.Goto = rules.OddGoto("statement", e.Goto)
			}
			t.Sets[id][e.Key] = e.Value
		})
	})
}
