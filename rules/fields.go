// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
)

// FieldKind is a kind of Field.
type FieldKind uint8

// The kinds of fields.
const (
	SourceAddr   FieldKind = iota + 1 // ip saddr
	DestAddr                          // ip daddr
	L4Protocol                        // meta l4proto
	DestPort                          // th dport
	Numgen                            // numgen inc mod Mod offset Offset
	RandomNumber                      // numgen random mod Mod offset Offset
	FlowHash                          // jhash ip saddr . th sport mod Mod seed Seed offset Offset
	AddrHash                          // jhash ip saddr mod Mod seed Seed offset Offset
	OriginalAddr                      // ct original ip daddr
	OriginalPort                      // ct original proto-dst
	SourcePort                        // th sport
)

// HashSeed is the seed of hashes, but for one that somebody asks for: always the same, so that a client keeps its
// endpoint when nftproxy starts anew.
const HashSeed = 0x6e667470

// Field is a value that is looked up in a set: a field of the packet or of its
// connection, the next number of the rule's own counter, a random number, or a hash.
type Field struct {
	Kind        FieldKind
	Mod, Offset uint32 // numbers and hashes only
	Seed        uint32 // hashes only; not 0
}

// Fields is up to four fields, concatenated. Unused ones are zero.
type Fields [4]Field

// All returns the fields in use.
func (f *Fields) All() []Field {
	for i := range f {
		if f[i].Kind == 0 {
			return f[:i]
		}
	}
	return f[:]
}

// NewFields concatenates fields.
func NewFields(fields ...Field) Fields {
	var f Fields
	if copy(f[:], fields) < len(fields) {
		panic("rules: more than four fields in a concatenation")
	}
	return f
}

// The keys that our sets have.
func frontendFields() Fields { return NewFields(frontendParts()...) }

func frontendParts() []Field {
	return []Field{{Kind: DestAddr}, {Kind: L4Protocol}, {Kind: DestPort}}
}

func nodePortFields() Fields { return NewFields(Field{Kind: L4Protocol}, Field{Kind: DestPort}) }

// hashesPorts says that the field has a port in it, whose protocol nft wants to know.
func (fd Field) hashesPorts() bool { return fd.Kind == FlowHash }

// Hashes says that the field is a hash, which has a seed.
func (k FieldKind) Hashes() bool { return k == FlowHash || k == AddrHash }

// nft returns the fields in nft's syntax.
func (f *Fields) nft(of Family) string {
	var words []string
	for _, fd := range f.All() {
		words = append(words, fd.nft(of))
	}
	return strings.Join(words, " . ")
}

// nftJSON returns the fields in nft's JSON; ports is what they call the protocol that has ports.
func (f *Fields) nftJSON(of Family, ports string) object {
	var parts []any
	for _, fd := range f.All() {
		parts = append(parts, fd.nftJSON(of, ports))
	}
	if len(parts) == 1 {
		return parts[0].(object)
	}
	return concat(parts...)
}

func (fd Field) nft(f Family) string {
	switch fd.Kind {
	case SourceAddr:
		return f.String() + " saddr"
	case DestAddr:
		return f.String() + " daddr"
	case L4Protocol:
		return "meta l4proto"
	case DestPort:
		return "th dport"
	case Numgen:
		return fmt.Sprintf("numgen inc mod %d", fd.Mod) + fd.offset()
	case RandomNumber:
		return fmt.Sprintf("numgen random mod %d", fd.Mod) + fd.offset()
	case FlowHash:
		return fmt.Sprintf("jhash %s saddr . th sport mod %d seed 0x%x", f, fd.Mod, fd.Seed) + fd.offset()
	case AddrHash:
		return fmt.Sprintf("jhash %s saddr mod %d seed 0x%x", f, fd.Mod, fd.Seed) + fd.offset()
	case OriginalAddr:
		return "ct original " + f.String() + " daddr"
	case OriginalPort:
		return "ct original proto-dst"
	case SourcePort:
		return "th sport"
	}
	panic(fmt.Sprintf("rules: no text for field kind %d", fd.Kind))
}

func (fd Field) offset() string {
	if fd.Offset == 0 {
		return ""
	}
	return fmt.Sprintf(" offset %d", fd.Offset)
}

func (fd Field) nftJSON(f Family, ports string) object {
	switch fd.Kind {
	case SourceAddr:
		return payload(f.String(), "saddr")
	case DestAddr:
		return payload(f.String(), "daddr")
	case L4Protocol:
		return metaJSON("l4proto")
	case DestPort:
		return payload(ports, "dport")
	case Numgen:
		return object{"numgen": object{"mode": "inc", "mod": fd.Mod, "offset": fd.Offset}}
	case RandomNumber:
		return object{"numgen": object{"mode": "random", "mod": fd.Mod, "offset": fd.Offset}}
	case FlowHash, AddrHash:
		hash := object{"mod": fd.Mod, "seed": fd.Seed, "expr": payload(f.String(), "saddr")}
		if fd.Kind == FlowHash {
			hash["expr"] = concat(payload(f.String(), "saddr"), payload(ports, "sport"))
		}
		if fd.Offset != 0 {
			hash["offset"] = fd.Offset
		}
		return object{"jhash": hash}
	case OriginalAddr:
		return object{"ct": object{"key": f.String() + " daddr", "dir": "original"}}
	case SourcePort:
		return payload(ports, "sport")
	case OriginalPort:
		return object{"ct": object{"key": "proto-dst", "dir": "original"}}
	}
	panic(fmt.Sprintf("rules: no JSON for field kind %d", fd.Kind))
}
