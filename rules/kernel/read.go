// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// tries is how often it is tried to read something that keeps changing.
const tries = 10

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
	for range tries {
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
	k.ear.hear()
	k.ear.changed = false
	before, _, err := k.others()
	if err != nil {
		return s, fmt.Errorf("read the ruleset's generation: %w", err)
	}
	failed := k.readTables(&s)
	after, others, err := k.others()
	switch {
	case err != nil:
		return s, fmt.Errorf("read the ruleset's generation: %w", err)
	case before != after && k.ear.heard(after): // what failed may only have gone meanwhile
		return s, errChanged
	}
	k.commits.seen = others
	return s, failed
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
	t := rules.NewTable()
	use := 0 // how many chains, sets and others it has
	name := func(typ uint16) func(*builder) { return func(b *builder) { b.str(typ, table) } }
	err := k.request(unix.NFT_MSG_GETTABLE, 0, nfproto(f), name(unix.NFTA_TABLE_NAME), func(v []byte) {
		eachAttr(v, func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_TABLE_FLAGS:
				t.Dormant = be32(v)&unix.NFT_TABLE_F_DORMANT != 0
			case unix.NFTA_TABLE_USE:
				use = int(be32(v))
			}
		})
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil //nolint:nilnil // no table is an answer, not an error
	}
	if err != nil {
		return nil, err
	}
	sets, err := k.readSetList(f, table, t)
	if complete(err) != nil {
		return nil, fmt.Errorf("sets: %w", err)
	}
	if err := k.readChains(f, table, t, use-sets); err != nil {
		return nil, fmt.Errorf("chains: %w", err)
	}
	if err := k.readRules(f, table, t); complete(err) != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if err := k.readSets(f, table, t); err != nil {
		return nil, fmt.Errorf("sets: %w", err)
	}
	return t, nil
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
		var c rules.Chain
		var of, kind string
		var policy uint32
		eachAttr(v, func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_CHAIN_TABLE:
				of = text(v)
			case unix.NFTA_CHAIN_NAME:
				c.Name = text(v)
			case unix.NFTA_CHAIN_HOOK:
				c.Hook = parseHook(v)
			case unix.NFTA_CHAIN_TYPE:
				kind = text(v)
			case unix.NFTA_CHAIN_POLICY:
				policy = be32(v)
			}
		})
		if c.Hook != nil && (kind != chainType || policy != policyAccept) {
			c.Hook.Number = foreignHook
		}
		if of != table {
			return
		}
		if _, again := t.Chains[c.Name]; k.listing && !again {
			t.ChainOrder = append(t.ChainOrder, c.Name)
		}
		t.Chains[c.Name] = c
	})
}

func parseHook(v []byte) *rules.Hook {
	h := &rules.Hook{}
	eachAttr(v, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_HOOK_HOOKNUM:
			h.Number = rules.HookNumber(be32(v))
		case unix.NFTA_HOOK_PRIORITY:
			h.Priority = int32(be32(v))
		}
	})
	return h
}

func (k *Kernel) readRules(f rules.Family, table string, t *rules.Table) error {
	return k.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, nfproto(f),
		func(b *builder) { b.str(unix.NFTA_RULE_TABLE, table) },
		func(v []byte) {
			var of, chain string
			var exprs []expr.Any
			eachAttr(v, func(typ uint16, v []byte) {
				switch typ {
				case unix.NFTA_RULE_TABLE:
					of = text(v)
				case unix.NFTA_RULE_CHAIN:
					chain = text(v)
				case unix.NFTA_RULE_EXPRESSIONS:
					exprs = parseExpressions(f, v)
				}
			})
			if of == table {
				c := t.Chains[chain]
				c.Rules = append(c.Rules, decodeRule(f, exprs))
				t.Chains[chain] = c
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

// setList returns a table with the sets that there are, without their elements.
func (k *Kernel) setList(f rules.Family, table string) (t *rules.Table, err error) {
	err = again(func() error {
		t = rules.NewTable()
		_, err := k.readSetList(f, table, t)
		return err
	})
	return t, err
}

// readSetList reads which sets there are, without their elements, and how many, all counted.
func (k *Kernel) readSetList(f rules.Family, table string, t *rules.Table) (n int, err error) {
	counting := map[bool]string{} // maps that count, and that do not
	err = k.request(unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, nfproto(f),
		func(b *builder) { b.str(unix.NFTA_SET_TABLE, table) },
		func(v []byte) {
			n++
			name, size, s := parseSet(v)
			id, ok := rules.ParseSetID(name)
			if s.flags&unix.NFT_SET_ANONYMOUS != 0 {
				return // the kernel deletes those with their rule
			}
			if !ok || !s.same(schemaOf(f, id.Kind)) || s.counted && !id.Kind.CountsConnections() {
				t.Foreign = append(t.Foreign, name)
				return
			}
			if id.Kind.CountsConnections() {
				counting[s.counted] = name
			}
			t.Sets[id] = map[rules.Key]rules.Value{}
			if id.Kind == rules.Affinity {
				t.Affinity[id] = rules.AffinityMap{Set: id, Size: size}
			}
			if k.listing {
				t.SetOrder = append(t.SetOrder, id)
			}
		})
	if _, t.Counted = counting[true]; t.Counted && len(counting) > 1 {
		t.Foreign = append(t.Foreign, counting[false]) // some count, some do not: none of our making
	}
	return n, err
}

func (k *Kernel) readSets(f rules.Family, table string, t *rules.Table) error {
	if k.listing && t.Counted {
		t.Counters = map[rules.SetID]map[rules.Key]rules.Counter{}
	}
	for id := range t.Sets {
		if id.Kind == rules.Affinity && !k.listing {
			continue
		}
		err := again(func() error { return complete(k.readSet(f, table, t, id)) })
		if err != nil {
			return fmt.Errorf("elements of %s: %w", id.Name(), err)
		}
	}
	return nil
}

// readSet reads the elements of one set.
func (k *Kernel) readSet(f rules.Family, table string, t *rules.Table, id rules.SetID) error {
	var ends []netip.Addr
	elements := t.Sets[id]
	clear(elements)
	if t.Counters != nil && id.Kind.CountsConnections() {
		t.Counters[id] = map[rules.Key]rules.Counter{}
	}
	var clients map[netip.Addr]rules.Lifetime
	if m, ok := t.Affinity[id]; ok {
		clients = map[netip.Addr]rules.Lifetime{}
		m.Clients = clients
		t.Affinity[id] = m
	}
	err := k.readElements(f, table, id, func(e element) bool {
		if e.end {
			ends = append(ends, e.Addr)
			return false
		}
		_, again := elements[e.Key]
		elements[e.Key] = e.Value
		if clients != nil {
			clients[e.Addr] = e.life
		}
		if counts := t.Counters[id]; counts != nil {
			counts[e.Key] = e.count
		}
		return again
	})
	if id.Kind.Interval() {
		closeRanges(f, elements, ends)
	}
	return err
}

// closeRanges gives each range its last address: the one before the next end, of
// which there is none behind a range that goes to the last address.
func closeRanges(f rules.Family, elements map[rules.Key]rules.Value, ends []netip.Addr) {
	slices.SortFunc(ends, netip.Addr.Compare)
	last := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if f == rules.IPv6 {
		last = netip.AddrFrom16([16]byte(bytes.Repeat([]byte{255}, 16)))
	}
	for k := range elements {
		to := last
		if i, _ := slices.BinarySearchFunc(ends, k.Addr.Next(), netip.Addr.Compare); i < len(ends) && k.Addr != last {
			to = ends[i].Prev()
		}
		elements[k] = rules.Value{To: netip.AddrPortFrom(to, 0)}
	}
}

func parseSet(v []byte) (name string, size uint32, s schema) {
	eachAttr(v, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_SET_NAME:
			name = text(v)
		case unix.NFTA_SET_FLAGS:
			s.flags = be32(v)
		case unix.NFTA_SET_KEY_TYPE:
			s.keyType = be32(v)
		case unix.NFTA_SET_KEY_LEN:
			s.keyLen = be32(v)
		case unix.NFTA_SET_DATA_TYPE:
			s.dataType = be32(v)
		case unix.NFTA_SET_DATA_LEN:
			s.dataLen = be32(v)
		case unix.NFTA_SET_USERDATA:
			s.userdata = append([]byte(nil), v...)
		case attrSetExpr:
			s.counted, _ = parseCounter(v)
		case unix.NFTA_SET_DESC:
			eachAttr(v, func(typ uint16, v []byte) {
				if typ == unix.NFTA_SET_DESC_SIZE {
					size = be32(v)
				}
			})
		}
	})
	return name, size, s
}

// element is an element as the kernel lists it: two for a range.
type element struct {
	rules.Element
	end   bool // the end of a range
	life  rules.Lifetime
	count rules.Counter
}

// readElements calls fn for each element. fn says whether it had the element before: when the kernel lists an element twice,
// readElements returns errChanged. It lists a long set
// in parts and goes on after as many elements as it has listed; where it makes the
// set's hash table larger or smaller meanwhile, which it does some time after a commit
// and without a new generation, it leaves as many others out.
func (k *Kernel) readElements(f rules.Family, table string, id rules.SetID, fn func(e element) (again bool)) error {
	twice := false
	err := k.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, nfproto(f),
		func(b *builder) {
			b.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			b.str(unix.NFTA_SET_ELEM_LIST_SET, id.Name())
		},
		func(v []byte) {
			eachAttr(v, func(typ uint16, list []byte) {
				if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
					return
				}
				eachAttr(list, func(_ uint16, v []byte) {
					if e, ok := parseElement(f, id.Kind, v); ok {
						twice = fn(e) || twice
					}
				})
			})
		})
	if complete(err) == nil && twice {
		return errChanged
	}
	return err
}

func parseElement(f rules.Family, kind rules.SetKind, v []byte) (e element, ok bool) {
	eachAttr(v, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = be32(v)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_TIMEOUT:
			e.life.Timeout = be64(v)
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.life.Expires = be64(v)
		case unix.NFTA_SET_ELEM_EXPR:
			_, e.count = parseCounter(v)
		case unix.NFTA_SET_ELEM_KEY:
			eachAttr(v, func(_ uint16, v []byte) { e.Key, ok = parseKey(f, kind, v) })
		case unix.NFTA_SET_ELEM_DATA:
			eachAttr(v, func(typ uint16, v []byte) {
				if typ == unix.NFTA_DATA_VERDICT {
					e.Goto = parseVerdict(kind, v)
				} else {
					e.To, _ = parseBackend(f, v)
				}
			})
		}
	})
	return e, ok
}

// parseCounter reads an expression, if it is a counter.
func parseCounter(v []byte) (counter bool, count rules.Counter) {
	eachAttr(v, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_EXPR_NAME:
			counter = text(v) == "counter"
		case unix.NFTA_EXPR_DATA:
			if !counter {
				return
			}
			eachAttr(v, func(typ uint16, v []byte) {
				switch typ {
				case unix.NFTA_COUNTER_BYTES:
					count.Bytes = be64(v)
				case unix.NFTA_COUNTER_PACKETS:
					count.Packets = be64(v)
				}
			})
		}
	})
	return counter, count
}

// parseVerdict returns the chain of a verdict as it should be in a map of the kind,
// and something that is no chain's name for any other verdict.
func parseVerdict(kind rules.SetKind, v []byte) string {
	var chain string
	var code uint32
	eachAttr(v, func(typ uint16, v []byte) {
		switch typ {
		case unix.NFTA_VERDICT_CODE:
			code = be32(v)
		case unix.NFTA_VERDICT_CHAIN:
			chain = text(v)
		}
	})
	if code != verdictCode(kind) {
		return fmt.Sprintf("(verdict %d) %s", int32(code), chain)
	}
	return chain
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
