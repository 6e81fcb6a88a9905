// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// tries is how often it is tried to read something that keeps changing. The first are made at once, the others
// after pauses that double, up to longestPause.
const (
	tries        = 12
	firstTries   = 4
	longestPause = 100 * time.Millisecond
)

var (
	// errChanged says that the tables changed while they were read.
	errChanged = errors.New("the tables kept changing while they were read")
	// errInterrupted says that anybody changed anything in the ruleset during a listing. What is listed
	// of one table is complete if the change was in another, but for chains: see readChains.
	errInterrupted = errors.New("the ruleset changed while it was listed")
)

// complete is for listings whose reader finds out by itself what has changed.
func complete(err error) error {
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// again calls fn until nothing changes meanwhile, some times at most.
func again(fn func() error) error {
	var err error
	pause := time.Millisecond
	for i := range tries {
		if i >= firstTries {
			time.Sleep(pause)
			pause = min(2*pause, longestPause)
		}
		if err = fn(); !errors.Is(err, errChanged) && !errors.Is(err, errInterrupted) {
			break
		}
	}
	return err
}

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
	if k.ear, err = k.listen(table); err != nil {
		return s, err
	}
	defer func() { k.ear.close(); k.ear = nil }()
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

// steady calls fn, which reads. It returns errChanged if others changed the table meanwhile, as far as k.ear heard.
func (k *Kernel) steady(fn func() error) error {
	k.ear.hear()
	k.ear.changed = false
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
	case before != after && k.ear.heard(after): // what failed may only have gone meanwhile
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
	err := k.request(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil, func(v []byte) {
		eachAttr(v, func(typ uint16, v []byte) {
			if typ == unix.NFTA_GEN_ID {
				gen = be32(v)
			}
		})
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
	err = k.request(unix.NFT_MSG_GETTABLE, 0, nfproto(f), func(b *builder) { b.str(unix.NFTA_TABLE_NAME, table) }, func(v []byte) {
		eachAttr(v, func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_TABLE_FLAGS:
				t.Dormant = be32(v)&unix.NFT_TABLE_F_DORMANT != 0
			case unix.NFTA_TABLE_USE:
				use = int(be32(v))
			case tableAttrUserdata:
				if c, ok := comment(v, udataTableComment); ok {
					t.Odd = append(t.Odd, rules.Oddity{What: c})
				}
			}
		})
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
	for range tries {
		err := k.listChains(f, table, t)
		if !errors.Is(err, errInterrupted) || len(t.Chains) == n {
			return complete(err)
		}
	}
	return errChanged
}

func (k *Kernel) listChains(f rules.Family, table string, t *rules.Table) error {
	return k.request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, nfproto(f), nil, func(v []byte) {
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
func parseChain(v []byte) (table string, c rules.Chain, odd []rules.Oddity) {
	var kind string
	var policy uint32
	strange := func(what string) { odd = append(odd, rules.Oddity{What: what}) }
	eachAttr(v, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table = text(v)
		case unix.NFTA_CHAIN_NAME:
			c.Name = text(v)
		case unix.NFTA_CHAIN_HOOK:
			c.Hook = parseHook(v)
		case unix.NFTA_CHAIN_TYPE:
			kind = text(v)
		case unix.NFTA_CHAIN_POLICY:
			policy = be32(v)
		case unix.NFTA_CHAIN_COUNTERS:
			strange("a counter")
		case chainAttrFlags:
			if be32(v)&^chainIsBase != 0 {
				strange("flags")
			}
		case chainAttrUserdata:
			if c, ok := comment(v, udataChainComment); ok {
				strange(c)
			}
		}
	})
	if c.Hook != nil && (kind != chainType || policy != policyAccept) {
		c.Hook.Number = foreignHook
	}
	for i := range odd {
		odd[i].Chain = c.Name
	}
	return table, c, odd
}

func parseHook(v []byte) *rules.Hook {
	h := &rules.Hook{}
	eachAttr(v, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_HOOK_HOOKNUM:
			h.Number = rules.HookNumber(be32(v))
		case unix.NFTA_HOOK_PRIORITY:
			h.Priority = int32(be32(v))
		case hookAttrDev, hookAttrDevs: // for some interfaces only
			h.Number = foreignHook
		}
	})
	return h
}

// readRules calls fn for each rule of a chain; of all chains of the table, chain by chain, if it names none.
func (k *Kernel) readRules(f rules.Family, table, chain string, fn func(chain string, r rules.Rule)) error {
	return k.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, nfproto(f),
		func(b *builder) {
			b.str(unix.NFTA_RULE_TABLE, table)
			if chain != "" {
				b.str(unix.NFTA_RULE_CHAIN, chain)
			}
		},
		func(v []byte) {
			var of, in string
			var r, odd rules.Rule
			eachAttr(v, func(typ uint16, v []byte) {
				switch typ {
				case unix.NFTA_RULE_TABLE:
					of = text(v)
				case unix.NFTA_RULE_CHAIN:
					in = text(v)
				case unix.NFTA_RULE_EXPRESSIONS:
					r = decodeRule(f, parseExpressions(f, v))
				case unix.NFTA_RULE_USERDATA:
					if c, ok := comment(v, udataRuleComment); ok {
						odd = rules.Rule{rules.Unknown{What: c}}
					}
				}
			})
			if of == table && (chain == "" || in == chain) {
				fn(in, append(r, odd...))
			}
		})
}

func parseExpressions(f rules.Family, list []byte) []expr.Any {
	var out []expr.Any
	eachAttr(list, func(_ uint16, v []byte) {
		var name string
		var data []byte
		eachAttr(v, func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_EXPR_NAME:
				name = text(v)
			case unix.NFTA_EXPR_DATA:
				data = v
			}
		})
		out = append(out, parseExpression(f, name, data))
	})
	return out
}

// request sends one request and calls fn for the attributes of each object in the
// answer. ENOENT is returned as it is; errInterrupted comes after the whole answer.
func (k *Kernel) request(typ, flags uint16, family uint8, attrs func(*builder), fn func([]byte)) error {
	seq := k.sock.nextSeq()
	var b builder
	b.message(typ, flags|unix.NLM_F_ACK, family, seq)
	if attrs != nil {
		attrs(&b)
	}
	b.end()
	if err := k.sock.send(b.buf); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	done, interrupted := false, false
	var failed error
	for !done {
		_, err := k.sock.receive(true, func(m message) error {
			if m.seq != seq {
				return nil
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_DONE:
				done = true
			case unix.NLMSG_ERROR:
				done = true
				if len(m.data) >= 4 {
					if errno := -int32(binary.NativeEndian.Uint32(m.data)); errno != 0 {
						failed = unix.Errno(errno)
					}
				}
			default:
				if len(m.data) >= 4 {
					fn(m.data[4:])
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if failed != nil {
		k.sock.drain()
		if errors.Is(failed, unix.EPERM) {
			return fmt.Errorf("%w: %s", failed, needCapability)
		}
		return failed
	}
	if k.ear != nil {
		k.ear.hear() // lest much that happens meanwhile does not fit
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}
