// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// chainTries is how often chains are listed at most.
const chainTries = nfnetlink.Tries

// errChanged says that the tables changed while they were read.
var errChanged = errors.New("the tables kept changing while they were read")

// complete is for listings whose reader finds out by itself what has changed. The kernel says that a listing was
// interrupted when anybody changed anything in the ruleset. What is listed of one table is complete if the change was in
// another, but for chains: see readChains.
func complete(err error) error {
	if errors.Is(err, nfnetlink.ErrInterrupted) {
		return nil
	}
	return err
}

// again calls fn until nothing changes meanwhile, some times at most.
func again(fn func() error) error { return nfnetlink.Again(fn, errChanged) }

// foreignHook stands for a hook whose chain is of another type, or has another
// policy, than all of ours.
const foreignHook = ^rules.HookNumber(0)

// Read reads the tables of a name, but for the clients in maps of session affinity, of which there may be very
// many. A reading during which others changed the tables is done again, a few times. What others change elsewhere
// does not matter, however often they do.
func (k *Kernel) Read(table string) (rules.State, error) { return k.read(table, false) }

// ReadListing reads as Read does, and also what listings show: the order of sets and
// chains, and clients that are remembered, and for how long.
func (k *Kernel) ReadListing(table string) (rules.State, error) { return k.read(table, true) }

func (k *Kernel) read(table string, listing bool) (s rules.State, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listing = listing
	if k.events, err = k.joinEvents(table); err != nil {
		return s, err
	}
	defer func() { k.events.close(); k.events = nil }()
	err = again(func() error { s, err = k.readOnce(table); return err })
	if errors.Is(err, errChanged) {
		return rules.State{}, fmt.Errorf("read table %s: %w", table, err)
	}
	return s, err
}

func (k *Kernel) readOnce(table string) (rules.State, error) {
	s := rules.State{Name: table}
	return s, k.steady(func() error { return k.readTables(&s) })
}

// steady calls fn, which reads. It returns errChanged if others changed the table meanwhile, as far as events tell.
func (k *Kernel) steady(fn func() error) error {
	k.events.take()
	k.events.changed = false
	before, others, err := k.others()
	if err != nil {
		return fmt.Errorf("read the ruleset's generation: %w", err)
	}
	k.commits.seen = others
	failed := fn()
	after, others, err := k.others()
	switch {
	case err != nil:
		return fmt.Errorf("read the ruleset's generation: %w", err)
	case before != after && k.events.changedUpTo(after): // what failed may only have gone meanwhile
		return errChanged
	}
	k.commits.seen = others
	return failed
}

func (k *Kernel) readTables(s *rules.State) error {
	for _, f := range rules.Families {
		t, err := k.readTable(f, s.Name)
		if err != nil {
			return fmt.Errorf("read table %s %s: %w", f, s.Name, err)
		}
		s.Tables[f] = t
	}
	return nil
}

// generation returns a number that grows with each commit in the namespace.
func (k *Kernel) generation() (uint32, error) {
	var gen uint32
	err := k.request(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil, func(v nfnetlink.Data) {
		for typ, v := range v.Attributes() {
			if typ == unix.NFTA_GEN_ID {
				gen = v.U32()
			}
		}
	})
	return gen, err
}

// readTable returns nil if there is no such table.
func (k *Kernel) readTable(f rules.Family, table string) (*rules.Table, error) {
	t, err := k.readHead(f, table)
	if t == nil || err != nil {
		return nil, err
	}
	err = k.readRules(f, table, "", func(chain string, r rules.Rule) {
		c := t.Chains[chain]
		c.Rules = append(c.Rules, r)
		t.Chains[chain] = c
	})
	if complete(err) != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if err := k.readSets(f, table, t); err != nil {
		return nil, fmt.Errorf("sets: %w", err)
	}
	return t, nil
}

// readHead reads a table without rules and elements; nil if there is no such table.
func (k *Kernel) readHead(f rules.Family, table string) (*rules.Table, error) {
	t, use, err := k.readTableOnly(f, table)
	if t == nil || err != nil {
		return nil, err
	}
	sets, err := k.readSetList(f, table, t)
	if complete(err) != nil {
		return nil, fmt.Errorf("sets: %w", err)
	}
	if err := k.readObjects(f, table, t); err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	if err := k.readChains(f, table, t, use-sets-len(t.Objects)); err != nil {
		return nil, fmt.Errorf("chains: %w", err)
	}
	return t, nil
}

// readTableOnly reads a table's own attributes, and how many chains, sets and others it has.
func (k *Kernel) readTableOnly(f rules.Family, table string) (t *rules.Table, use int, err error) {
	t = rules.NewTable()
	err = k.request(unix.NFT_MSG_GETTABLE, 0, nfproto(f), func(b *builder) { b.Str(unix.NFTA_TABLE_NAME, table) }, func(v nfnetlink.Data) {
		for typ, v := range v.Attributes() {
			switch typ {
			case unix.NFTA_TABLE_FLAGS:
				t.Dormant = v.U32()&unix.NFT_TABLE_F_DORMANT != 0
			case unix.NFTA_TABLE_USE:
				use = int(v.U32())
			case tableAttrUserdata:
				if c, ok := comment(v, udataTableComment); ok {
					t.Odd = append(t.Odd, rules.Oddity{What: c})
				}
			}
		}
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, 0, nil
	}
	return t, use, err
}

// readChains reads chains, of which there should be n. The kernel lists those of all tables of the family,
// in parts, each of which begins after as many chains as were listed: a chain that another table loses
// or gets meanwhile makes it skip one of ours, or list one twice. Several listings together have all.
func (k *Kernel) readChains(f rules.Family, table string, t *rules.Table, n int) error {
	for range chainTries {
		err := k.listChains(f, table, t)
		if !errors.Is(err, nfnetlink.ErrInterrupted) || len(t.Chains) == n {
			return complete(err)
		}
	}
	return errChanged
}

func (k *Kernel) listChains(f rules.Family, table string, t *rules.Table) error {
	return k.request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, nfproto(f), nil, func(v nfnetlink.Data) {
		of, c, odd := parseChain(v)
		if of != table {
			return
		}
		if _, again := t.Chains[c.Name]; !again {
			t.Odd = append(t.Odd, odd...)
			if k.listing {
				t.ChainOrder = append(t.ChainOrder, c.Name)
			}
		}
		t.Chains[c.Name] = c
	})
}

// parseChain returns a chain without its rules, the name of its table, and what is odd about it.
func parseChain(v nfnetlink.Data) (table string, c rules.Chain, odd []rules.Oddity) {
	var kind string
	var policy uint32
	strange := func(what string) { odd = append(odd, rules.Oddity{What: what}) }
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table = v.Text()
		case unix.NFTA_CHAIN_NAME:
			c.Name = v.Text()
		case unix.NFTA_CHAIN_HOOK:
			c.Hook = parseHook(v)
		case unix.NFTA_CHAIN_TYPE:
			kind = v.Text()
		case unix.NFTA_CHAIN_POLICY:
			policy = v.U32()
		case unix.NFTA_CHAIN_COUNTERS:
			strange("a counter")
		case chainAttrFlags:
			if v.U32()&^chainIsBase != 0 {
				strange("flags")
			}
		case chainAttrUserdata:
			if c, ok := comment(v, udataChainComment); ok {
				strange(c)
			}
		}
	}
	if c.Hook != nil && (kind != chainType || policy != policyAccept) {
		c.Hook.Number = foreignHook
	}
	for i := range odd {
		odd[i].Chain = c.Name
	}
	return table, c, odd
}

func parseHook(v nfnetlink.Data) *rules.Hook {
	h := &rules.Hook{}
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_HOOK_HOOKNUM:
			h.Number = rules.HookNumber(v.U32())
		case unix.NFTA_HOOK_PRIORITY:
			h.Priority = int32(v.U32())
		case hookAttrDev, hookAttrDevs: // for some interfaces only
			h.Number = foreignHook
		}
	}
	return h
}

// readRules calls fn for each rule of a chain; of all chains of the table, chain by chain, if it names none.
func (k *Kernel) readRules(f rules.Family, table, chain string, fn func(chain string, r rules.Rule)) error {
	return k.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, nfproto(f),
		func(b *builder) {
			b.Str(unix.NFTA_RULE_TABLE, table)
			if chain != "" {
				b.Str(unix.NFTA_RULE_CHAIN, chain)
			}
		},
		func(v nfnetlink.Data) {
			var of, in string
			var r, odd rules.Rule
			for typ, v := range v.Attributes() {
				switch typ {
				case unix.NFTA_RULE_TABLE:
					of = v.Text()
				case unix.NFTA_RULE_CHAIN:
					in = v.Text()
				case unix.NFTA_RULE_EXPRESSIONS:
					r = decodeRule(f, parseExpressions(f, v))
				case unix.NFTA_RULE_USERDATA:
					if c, ok := comment(v, udataRuleComment); ok {
						odd = rules.Rule{rules.Unknown{What: c}}
					}
				}
			}
			if of == table && (chain == "" || in == chain) {
				fn(in, append(r, odd...))
			}
		})
}

func parseExpressions(f rules.Family, list nfnetlink.Data) []expr.Any {
	var out []expr.Any
	for _, v := range list.Attributes() {
		var name string
		var data nfnetlink.Data
		for typ, v := range v.Attributes() {
			switch typ {
			case unix.NFTA_EXPR_NAME:
				name = v.Text()
			case unix.NFTA_EXPR_DATA:
				data = v
			}
		}
		out = append(out, parseExpression(f, name, data))
	}
	return out
}

// request sends one request and calls fn for the attributes of each object in the
// answer. nfnetlink.ErrInterrupted comes after the whole answer.
func (k *Kernel) request(typ, flags uint16, family uint8, attrs func(*builder), fn func(nfnetlink.Data)) error {
	var b builder
	b.message(typ, flags|unix.NLM_F_ACK, family)
	if attrs != nil {
		attrs(&b)
	}
	err := k.sock.Ask(context.Background(), &b.Builder, func(m nfnetlink.Message) { fn(m.Body()) })
	if k.events != nil {
		k.events.take() // lest much that happens meanwhile does not fit
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %s", err, needCapability)
	}
	return err
}
