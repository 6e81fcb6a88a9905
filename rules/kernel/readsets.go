// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// readSetList reads which sets there are, without their elements, and how many, all counted.
func (r *reader) readSetList(f rules.Family, t *rules.Table) (n int, err error) {
	counting := map[bool]string{} // maps that count, and that do not
	err = r.ask(wire.GetSets(f, r.table), func(v nfnetlink.Data) {
		n++
		s := wire.ParseSet(v)
		id, ok := r.addSet(f, t, s)
		if ok && id.Kind.Serves() {
			counting[s.Counted()] = s.Name
		}
	})
	if _, t.Counted = counting[true]; t.Counted && len(counting) > 1 {
		t.Foreign = append(t.Foreign, counting[false]) // some count, some do not: none of our making
	}
	return n, err
}

// addSet adds a set without its elements to a table. It is false for one that is not ours.
func (r *reader) addSet(f rules.Family, t *rules.Table, s wire.Set) (rules.SetID, bool) {
	id, ours := s.Ours(f)
	if s.Anonymous() {
		return id, false
	}
	if !ours {
		t.Foreign = append(t.Foreign, s.Name)
		return id, false
	}
	t.Sets[id] = map[rules.Key]rules.Value{}
	if id.Kind.Dynamic() {
		t.Affinity[id] = rules.AffinityMap{Set: id, Size: s.Size}
	} else if s.Size != 0 {
		s.Odd = append(s.Odd, "a size")
	}
	for _, what := range s.Odd {
		t.Odd = append(t.Odd, rules.Oddity{Set: s.Name, What: what})
	}
	if r.listing {
		t.SetOrder = append(t.SetOrder, id)
	}
	return id, true
}

func (r *reader) readSets(f rules.Family, t *rules.Table) error {
	if r.listing && t.Counted {
		t.Counters = map[rules.SetID]map[rules.Key]rules.Counter{}
	}
	for id := range t.Sets {
		if id.Kind.Dynamic() && !r.listing {
			continue
		}
		err := again(func() error { return complete(r.readSet(f, t, id)) })
		if err != nil {
			return fmt.Errorf("elements of %s: %w", id.Name(), err)
		}
	}
	return nil
}

// readSet reads the elements of one set.
func (r *reader) readSet(f rules.Family, t *rules.Table, id rules.SetID) error {
	var ends []netip.Addr
	elements := t.Sets[id]
	clear(elements)
	if t.Counters != nil && id.Kind.Serves() {
		t.Counters[id] = map[rules.Key]rules.Counter{}
	}
	var clients map[rules.Key]rules.Lifetime
	if m, ok := t.Affinity[id]; ok {
		clients = map[rules.Key]rules.Lifetime{}
		m.Clients = clients
		t.Affinity[id] = m
	}
	err := r.listElements(f, id, func(e wire.Element) bool {
		if e.End {
			ends = append(ends, e.Addr)
			return false
		}
		if e.OddKey != "" {
			t.Odd = append(t.Odd, rules.Oddity{Set: id.Name(), What: e.OddKey})
			return false
		}
		if e.Stated && !id.Kind.Dynamic() && !(t.Counted && id.Kind.Serves()) {
			e.Goto = rules.OddGoto("statement", e.Goto)
		}
		_, again := elements[e.Key]
		elements[e.Key] = e.Value
		if clients != nil {
			clients[e.Key] = e.Life
		}
		if counts := t.Counters[id]; counts != nil {
			counts[e.Key] = e.Count
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

// listElements calls fn for each element. fn says whether it had the element before: when the kernel lists an element
// twice, listElements returns errChanged. The kernel lists a long set in parts and goes on after as many elements as it
// has listed. Where it makes the set's hash table larger or smaller meanwhile, which it does some time after a commit and
// without a new generation, it leaves as many others out.
func (r *reader) listElements(f rules.Family, id rules.SetID, fn func(e wire.Element) (again bool)) error {
	twice := false
	err := r.ask(wire.GetElements(f, r.table, id), func(v nfnetlink.Data) {
		wire.EachElement(f, id.Kind, v, func(e wire.Element) { twice = fn(e) || twice })
	})
	if complete(err) == nil && twice {
		return errChanged
	}
	return err
}
