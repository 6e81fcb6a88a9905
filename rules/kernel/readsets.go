// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// setList returns a table with the sets that there are, without their elements.
func (k *Kernel) setList(f rules.Family, table string) (t *rules.Table, err error) {
	err = again(func() error {
		t = rules.NewTable()
		_, err = k.readSetList(f, table, t)
		return err
	})
	return t, err
}

// readSetList reads which sets there are, without their elements, and how many, all counted.
func (k *Kernel) readSetList(f rules.Family, table string, t *rules.Table) (n int, err error) {
	counting := map[bool]string{} // maps that count, and that do not
	err = k.request(unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, nfproto(f),
		func(b *builder) { b.Str(unix.NFTA_SET_TABLE, table) },
		func(v nfnetlink.Data) {
			n++
			s := parseSet(v)
			id, ok := k.addSet(f, t, s)
			if ok && id.Kind.Serves() {
				counting[s.counted] = s.name
			}
		})
	if _, t.Counted = counting[true]; t.Counted && len(counting) > 1 {
		t.Foreign = append(t.Foreign, counting[false]) // some count, some do not: none of our making
	}
	return n, err
}

// addSet adds a set without its elements to a table. It is false for one that is not ours.
func (k *Kernel) addSet(f rules.Family, t *rules.Table, s setDecl) (rules.SetID, bool) {
	id, ok := rules.ParseSetID(s.name)
	if s.flags&unix.NFT_SET_ANONYMOUS != 0 {
		return id, false // the kernel deletes those with their rule
	}
	if !ok || !s.same(schemaOf(f, id.Kind)) || s.counted && !id.Kind.Serves() {
		t.Foreign = append(t.Foreign, s.name)
		return id, false
	}
	t.Sets[id] = map[rules.Key]rules.Value{}
	if id.Kind.Dynamic() {
		t.Affinity[id] = rules.AffinityMap{Set: id, Size: s.size}
	} else if s.size != 0 {
		s.odd = append(s.odd, "a size")
	}
	for _, what := range s.odd {
		t.Odd = append(t.Odd, rules.Oddity{Set: s.name, What: what})
	}
	if k.listing {
		t.SetOrder = append(t.SetOrder, id)
	}
	return id, true
}

func (k *Kernel) readSets(f rules.Family, table string, t *rules.Table) error {
	if k.listing && t.Counted {
		t.Counters = map[rules.SetID]map[rules.Key]rules.Counter{}
	}
	for id := range t.Sets {
		if id.Kind.Dynamic() && !k.listing {
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
	if t.Counters != nil && id.Kind.Serves() {
		t.Counters[id] = map[rules.Key]rules.Counter{}
	}
	var clients map[netip.Addr]rules.Lifetime
	if m, ok := t.Affinity[id]; ok {
		clients = map[netip.Addr]rules.Lifetime{}
		m.Clients = clients
		t.Affinity[id] = m
	}
	err := k.listElements(f, table, id, func(e element) bool {
		if e.end {
			ends = append(ends, e.Addr)
			return false
		}
		if e.catchall {
			t.Odd = append(t.Odd, rules.Oddity{Set: id.Name(), What: "an element for all keys (*)"})
			return false
		}
		if e.stated && !id.Kind.Dynamic() && !(t.Counted && id.Kind.Serves()) {
			e.Goto = rules.OddGoto("statement", e.Goto)
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
		elements[k] = rules.Value{To: netip.AddrPortFrom(to, 0), Goto: elements[k].Goto}
	}
}

// setDecl is a set's declaration with what ours have not.
type setDecl struct {
	schema
	name string
	size uint32
	odd  []string
}

func parseSet(v nfnetlink.Data) (s setDecl) {
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_SET_NAME:
			s.name = v.Text()
		case unix.NFTA_SET_FLAGS:
			s.flags = v.U32()
		case unix.NFTA_SET_KEY_TYPE:
			s.keyType = v.U32()
		case unix.NFTA_SET_KEY_LEN:
			s.keyLen = v.U32()
		case unix.NFTA_SET_DATA_TYPE:
			s.dataType = v.U32()
		case unix.NFTA_SET_DATA_LEN:
			s.dataLen = v.U32()
		case unix.NFTA_SET_USERDATA:
			s.userdata = bytes.Clone(v)
			if c, ok := comment(v, udataSetComment); ok {
				s.odd = append(s.odd, c)
			}
		case attrSetExpr:
			if s.counted, _ = parseCounter(v); !s.counted {
				s.odd = append(s.odd, "a statement")
			}
		case setAttrExprs:
			s.odd = append(s.odd, "statements")
		case unix.NFTA_SET_TIMEOUT:
			s.odd = append(s.odd, "a timeout")
		case unix.NFTA_SET_GC_INTERVAL:
			s.odd = append(s.odd, "a gc-interval")
		case unix.NFTA_SET_POLICY:
			s.odd = append(s.odd, "a policy")
		case unix.NFTA_SET_DESC:
			for typ, v := range v.Attributes() {
				if typ == unix.NFTA_SET_DESC_SIZE {
					s.size = v.U32()
				}
			}
		}
	}
	return s
}

// element is an element as the kernel lists it: two for a range.
type element struct {
	rules.Element
	end bool // the end of a range
	// catchall says that it is for all keys, stated that it has a statement, such as a counter, and odd what else it
	// has.
	catchall, stated bool
	odd              string
	life             rules.Lifetime
	count            rules.Counter
}

// readElements calls fn for each element but one for all keys.
func (k *Kernel) readElements(f rules.Family, table string, id rules.SetID, fn func(e element) (again bool)) error {
	return k.listElements(f, table, id, func(e element) bool { return !e.catchall && fn(e) })
}

// listElements calls fn for each element. fn says whether it had the element before: when the kernel lists an element twice,
// listElements returns errChanged. It lists a long set
// in parts and goes on after as many elements as it has listed; where it makes the
// set's hash table larger or smaller meanwhile, which it does some time after a commit
// and without a new generation, it leaves as many others out.
func (k *Kernel) listElements(f rules.Family, table string, id rules.SetID, fn func(e element) (again bool)) error {
	twice := false
	err := k.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, nfproto(f),
		func(b *builder) {
			b.Str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			b.Str(unix.NFTA_SET_ELEM_LIST_SET, id.Name())
		},
		func(v nfnetlink.Data) {
			eachElement(f, id.Kind, v, func(e element) { twice = fn(e) || twice })
		})
	if complete(err) == nil && twice {
		return errChanged
	}
	return err
}

// eachElement calls fn for each element in a message.
func eachElement(f rules.Family, kind rules.SetKind, v nfnetlink.Data, fn func(element)) {
	for typ, list := range v.Attributes() {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for _, v := range list.Attributes() {
			if e, ok := parseElement(f, kind, v); ok || e.catchall {
				fn(e)
			}
		}
	}
}

func parseElement(f rules.Family, kind rules.SetKind, v nfnetlink.Data) (e element, ok bool) {
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = v.U32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
			e.catchall = v.U32()&elemIsCatchall != 0
		case unix.NFTA_SET_ELEM_TIMEOUT:
			e.life.Timeout = v.U64()
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.life.Expires = v.U64()
		case unix.NFTA_SET_ELEM_EXPR:
			_, e.count = parseCounter(v)
			e.stated = true
		case elemAttrExprs:
			e.stated = true
		case unix.NFTA_SET_ELEM_USERDATA:
			e.odd, _ = comment(v, udataElementComment)
		case unix.NFTA_SET_ELEM_KEY:
			for _, v := range v.Attributes() {
				e.Key, ok = parseKey(f, kind, v)
			}
		case unix.NFTA_SET_ELEM_DATA:
			for typ, v := range v.Attributes() {
				if typ == unix.NFTA_DATA_VERDICT {
					e.Goto = parseVerdict(kind, v)
				} else {
					e.To, _ = parseBackend(f, v)
				}
			}
		}
	}
	if e.odd != "" && !kind.Dynamic() {
		e.Goto = rules.OddGoto(e.odd, e.Goto)
	}
	return e, ok
}

// parseCounter reads an expression, if it is a counter.
func parseCounter(v nfnetlink.Data) (counter bool, count rules.Counter) {
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_EXPR_NAME:
			counter = v.Text() == "counter"
		case unix.NFTA_EXPR_DATA:
			if !counter {
				continue
			}
			for typ, v := range v.Attributes() {
				switch typ {
				case unix.NFTA_COUNTER_BYTES:
					count.Bytes = v.U64()
				case unix.NFTA_COUNTER_PACKETS:
					count.Packets = v.U64()
				}
			}
		}
	}
	return counter, count
}

// parseVerdict returns the chain of a verdict as it should be in a map of the kind,
// and something that is no chain's name for any other verdict.
func parseVerdict(kind rules.SetKind, v nfnetlink.Data) string {
	var chain string
	var code uint32
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_VERDICT_CODE:
			code = v.U32()
		case unix.NFTA_VERDICT_CHAIN:
			chain = v.Text()
		}
	}
	if code != verdictCode(kind) {
		return rules.OddGoto(fmt.Sprintf("verdict %d", int32(code)), chain)
	}
	return chain
}
