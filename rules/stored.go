// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// stored is an owner's objects as Desired keeps them. Elements that number a service port's endpoints are packed: there are
// hundreds of thousands, and they take 6 bytes each instead of 88.
type stored struct {
	rest   Objects // Sets without the elements that are packed
	packed []packed
}

// packed is the elements of one set whose keys differ in nothing but the index, which goes up by one.
type packed struct {
	set   int // in rest.Sets
	first Key
	size  int    // of one
	data  string // each one's address and port
}

// packMin is the number of elements from which on packing them saves anything.
const packMin = 2

// store returns objects as they are kept. They are not changed.
func store(o Objects) stored {
	s := stored{rest: o}
	for i := range o.Sets {
		p, ok := pack(o.Sets[i].Elements)
		if !ok {
			continue
		}
		if s.packed == nil {
			s.rest.Sets = append([]SetElements(nil), o.Sets...)
		}
		p.set = i
		s.packed = append(s.packed, p)
		s.rest.Sets[i].Elements = nil
	}
	return s
}

// pack packs elements; false: that is not possible.
func pack(list []Element) (packed, bool) {
	if len(list) < packMin || !list[0].To.IsValid() {
		return packed{}, false
	}
	p := packed{first: list[0].Key, size: list[0].To.Addr().BitLen()/8 + 2}
	key := p.first
	data := make([]byte, 0, len(list)*p.size)
	for i := range list {
		e := &list[i]
		a := e.To.Addr()
		if e.Key != key || e.Goto != "" || a.BitLen()/8+2 != p.size || a.Zone() != "" {
			return packed{}, false
		}
		data = append(data, a.AsSlice()...)
		data = binary.NativeEndian.AppendUint16(data, e.To.Port())
		key.Index++
	}
	p.data = string(data)
	return p, true
}

func (p *packed) len() int { return len(p.data) / p.size }

// elements unpacks.
func (p *packed) elements() []Element {
	out := make([]Element, p.len())
	key := p.first
	for i := range out {
		out[i] = Element{key, p.at(i)}
		key.Index++
	}
	return out
}

// at unpacks the value of one element.
func (p *packed) at(i int) Value {
	var data [16 + 2]byte
	n := copy(data[:], p.data[i*p.size:(i+1)*p.size]) - 2
	a, _ := netip.AddrFromSlice(data[:n])
	return Value{To: netip.AddrPortFrom(a, binary.NativeEndian.Uint16(data[n:]))}
}

// value returns that of a key; false: there is none.
func (p *packed) value(k Key) (Value, bool) {
	i := k.Index - p.first.Index // large for keys before the first
	if k.Index = p.first.Index; k != p.first || int64(i) >= int64(p.len()) {
		return Value{}, false
	}
	return p.at(int(i)), true
}

// objects returns the objects as they were. Nobody may change them.
func (s stored) objects() Objects {
	o := s.rest
	if len(s.packed) == 0 {
		return o
	}
	o.Sets = append([]SetElements(nil), o.Sets...)
	for i := range s.packed {
		o.Sets[s.packed[i].set].Elements = s.packed[i].elements()
	}
	return o
}

// storedElements is some elements of one set: packed, or as they are.
type storedElements struct {
	packed *packed
	plain  []Element
}

func (l storedElements) len() int {
	if l.packed != nil {
		return l.packed.len()
	}
	return len(l.plain)
}

func (l storedElements) elements() []Element {
	if l.packed != nil {
		return l.packed.elements()
	}
	return l.plain
}

// value returns that of a key; false: there is none. Elements are sorted by key.
func (l storedElements) value(k Key) (Value, bool) {
	if l.packed != nil {
		return l.packed.value(k)
	}
	i, ok := slices.BinarySearchFunc(l.plain, k, func(e Element, k Key) int { return e.Key.compare(k) })
	if !ok {
		return Value{}, false
	}
	return l.plain[i].Value, true
}

// eachSet calls fn for the elements of each set.
func (s stored) eachSet(fn func(SetID, storedElements)) {
	next := s.packed
	for i := range s.rest.Sets {
		l := storedElements{plain: s.rest.Sets[i].Elements}
		if len(next) > 0 && next[0].set == i {
			l, next = storedElements{packed: &next[0]}, next[1:]
		}
		fn(s.rest.Sets[i].Set, l)
	}
}
