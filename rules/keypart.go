// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// KeyPart is a part of the keys of a set.
type KeyPart uint8

// The parts.
const (
	KeyAddr     KeyPart = iota // Key.Addr
	KeySameAddr                // Key.Addr once more
	KeyProtocol                // Key.Protocol
	KeyPort                    // Key.Port
	KeyID                      // Key.ID
	KeyCounter                 // Key.Index, which a rule's counter chooses
	KeyChoice                  // Key.Index, which is chosen otherwise
	NumKeyParts                // how many there are
)

// The keys of frontends, and of NodePorts.
var (
	frontendKey = []KeyPart{KeyAddr, KeyProtocol, KeyPort}
	nodePortKey = frontendKey[1:]
)

// keyPart is the row of a part of a key.
type keyPart struct {
	// dataType is nft's name of its type; of an address, without its family.
	dataType string
	// expression is what nft takes the type from where that has no length of its own: 'typeof' in place of 'type'.
	expression string
	// value returns the part of a key.
	value func(Key) any
	// bytes appends the part as nft has it when it sorts: its own numbers, which are little-endian, and others' as packets have
	// them.
	bytes func([]byte, Key) []byte
	// inLine is how many elements nft writes into a line where a set has this part alone; 0: one.
	inLine int
}

var keyParts = [NumKeyParts]keyPart{
	KeyAddr: {dataType: addrType, expression: daddr, inLine: 2,
		value: func(k Key) any { return k.Addr },
		bytes: func(b []byte, k Key) []byte { return append(b, k.Addr.AsSlice()...) }},
	KeySameAddr: {dataType: addrType, expression: daddr,
		value: func(k Key) any { return k.Addr },
		bytes: func(b []byte, k Key) []byte { return append(b, k.Addr.AsSlice()...) }},
	KeyProtocol: {dataType: "inet_proto", expression: "meta l4proto", inLine: 6,
		value: func(k Key) any { return k.Protocol.String() },
		bytes: func(b []byte, k Key) []byte { return append(b, byte(k.Protocol)) }},
	KeyPort: {dataType: portType, expression: dport,
		value: func(k Key) any { return k.Port },
		bytes: func(b []byte, k Key) []byte { return binary.BigEndian.AppendUint16(b, k.Port) }},
	KeyID: {dataType: integerType, expression: "numgen inc mod 1",
		value: func(k Key) any { return k.ID },
		bytes: func(b []byte, k Key) []byte { return binary.LittleEndian.AppendUint32(b, k.ID) }},
	KeyCounter: {dataType: integerType, expression: "numgen inc mod 2",
		value: func(k Key) any { return k.Index },
		bytes: func(b []byte, k Key) []byte { return binary.LittleEndian.AppendUint32(b, k.Index) }},
	KeyChoice: {dataType: integerType, expression: "numgen inc mod 65536",
		value: func(k Key) any { return k.Index },
		bytes: func(b []byte, k Key) []byte { return binary.LittleEndian.AppendUint32(b, k.Index) }},
}

// nft's names of types, and what they are taken from; those of addresses come after the family's name.
const (
	addrType    = "_addr"
	portType    = "inet_service"
	integerType = "integer"
	daddr       = " daddr"
	dport       = "th dport"
)

// ofFamily completes the name of an address's type or expression.
func ofFamily(f Family, name string) string {
	switch {
	case name == addrType && f == IPv4:
		return "ipv4" + name
	case name == addrType:
		return "ipv6" + name
	case name == daddr:
		return f.String() + name
	}
	return name
}

// declaration is a set's types and flags, as nft names them.
type declaration struct {
	key, data []string // types; no data: a set. A map to verdicts has data "verdict".
	typeof    string   // in place of types: key and data as expressions
	flags     []string
}

// declare returns the declaration of sets of a kind.
func declare(f Family, k SetKind) declaration {
	var d declaration
	var expressions []string
	typeof := false
	for _, p := range k.Key() {
		d.key = append(d.key, ofFamily(f, keyParts[p].dataType))
		expressions = append(expressions, ofFamily(f, keyParts[p].expression))
		typeof = typeof || keyParts[p].dataType == integerType
	}
	switch k.Value() {
	case ToEndpoint:
		d.data = []string{ofFamily(f, addrType), portType}
	case JumpTo, GoTo:
		d.data = []string{"verdict"}
	case Range:
		d.flags = []string{"interval"}
	}
	if typeof {
		d.typeof = strings.Join(expressions, " . ")
		if k.IsMap() {
			d.typeof += " : " + ofFamily(f, daddr) + " . " + dport
		}
	}
	if k.Dynamic() {
		d.flags = []string{"dynamic", "timeout"}
	}
	return d
}

// values returns the parts of a key, for text and JSON: addresses, names of protocols and numbers.
func (k SetKind) values(key Key) []any {
	parts := k.Key()
	out := make([]any, len(parts))
	for i, p := range parts {
		out[i] = keyParts[p].value(key)
	}
	return out
}

// inLine returns how many elements nft writes into a line of a set.
func (k SetKind) inLine(f Family) int {
	if parts := k.Key(); len(parts) == 1 && (parts[0] != KeyAddr || f == IPv4) {
		return max(keyParts[parts[0]].inLine, 1)
	}
	return 1
}

// rangePrefix returns the prefix that a range of addresses is, if it is one.
func rangePrefix(e Element) (netip.Prefix, bool) {
	first, last := e.Addr, e.To.Addr()
	for bits := range first.BitLen() + 1 {
		if p := netip.PrefixFrom(first, bits); p.Masked() == p && lastOf(p) == last {
			return p, true
		}
	}
	return netip.Prefix{}, false
}
