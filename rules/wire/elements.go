// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// Set is a set's declaration.
type Set struct {
	schema
	Name string
	Size uint32
	// Odd is what it has that ours have not.
	Odd []string
}

// Anonymous says whether the set belongs to a rule, with which the kernel deletes it.
func (s Set) Anonymous() bool { return s.flags&unix.NFT_SET_ANONYMOUS != 0 }

// Counted says whether each element has a counter.
func (s Set) Counted() bool { return s.counted }

// Userdata is what nft keeps beside it.
func (s Set) Userdata() []byte { return s.userdata }

// Ours returns which of our sets it is. It is false for one whose elements cannot be ours, though it may have the name
// of one of ours.
func (s Set) Ours(f rules.Family) (rules.SetID, bool) {
	id, ok := rules.ParseSetID(s.Name)
	return id, ok && s.same(schemaOf(f, id.Kind)) && (!s.counted || id.Kind.Serves())
}

// ParseSet reads a set's declaration.
func ParseSet(v nfnetlink.Data) (s Set) {
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_SET_NAME:
			s.Name = v.Text()
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
				s.Odd = append(s.Odd, c)
			}
		case attrSetExpr:
			if s.counted, _ = parseCounter(v); !s.counted {
				s.Odd = append(s.Odd, "a statement")
			}
		case setAttrExprs:
			s.Odd = append(s.Odd, "statements")
		case unix.NFTA_SET_TIMEOUT:
			s.Odd = append(s.Odd, "a timeout")
		case unix.NFTA_SET_GC_INTERVAL:
			s.Odd = append(s.Odd, "a gc-interval")
		case unix.NFTA_SET_POLICY:
			s.Odd = append(s.Odd, "a policy")
		case unix.NFTA_SET_DESC:
			for typ, v := range v.Attributes() {
				if typ == unix.NFTA_SET_DESC_SIZE {
					s.Size = v.U32()
				}
			}
		}
	}
	return s
}

// Element is an element as the kernel lists it: two for a range.
type Element struct {
	rules.Element
	End    bool   // of a range
	OddKey string // what it is instead, if its key can be none of ours; Key does not count then
	Stated bool   // it has a statement, such as a counter
	Life   rules.Lifetime
	Count  rules.Counter
	odd    string // what else it has
}

// EachElement calls fn for each element in a message about a set of a kind.
func EachElement(f rules.Family, kind rules.SetKind, v nfnetlink.Data, fn func(Element)) {
	for typ, list := range v.Attributes() {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for _, v := range list.Attributes() {
			if e, ok := parseElement(f, kind, v); ok || e.OddKey != "" {
				fn(e)
			}
		}
	}
}

func parseElement(f rules.Family, kind rules.SetKind, v nfnetlink.Data) (e Element, ok bool) {
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_SET_ELEM_FLAGS:
			e.End = v.U32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
			if v.U32()&elemIsCatchall != 0 {
				e.OddKey = "an element for all keys (*)"
			}
		case unix.NFTA_SET_ELEM_TIMEOUT:
			e.Life.Timeout = v.U64()
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.Life.Expires = v.U64()
		case unix.NFTA_SET_ELEM_EXPR:
			_, e.Count = parseCounter(v)
			e.Stated = true
		case elemAttrExprs:
			e.Stated = true
		case unix.NFTA_SET_ELEM_USERDATA:
			e.odd, _ = comment(v, udataElementComment)
		case unix.NFTA_SET_ELEM_KEY:
			for _, v := range v.Attributes() {
				var odd string
				if e.Key, odd, ok = parseKey(f, kind, v); odd != "" {
					e.OddKey = odd
				}
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
