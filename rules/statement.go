// SPDX-License-Identifier: Apache-2.0

package rules

import "net/netip"

// Statement is a part of a rule. The list of its kinds is closed: text, the
// kernel's encoder and decoder and the packet tracer each switch on all of them.
// Statements are comparable with ==.
type Statement interface{ statement() }

// FieldKind is a kind of Field.
type FieldKind uint8

// The kinds of fields.
const (
	SourceAddr FieldKind = iota + 1 // ip saddr
	DestAddr                        // ip daddr
	L4Protocol                      // meta l4proto
	DestPort                        // th dport
	Numgen                          // numgen inc mod Mod offset Offset
)

// Field is a value that is looked up in a set: a field of the packet, or the
// next number of the rule's own counter.
type Field struct {
	Kind        FieldKind
	Mod, Offset uint32 // Numgen only
}

// Fields is up to three fields, concatenated. Unused ones are zero.
type Fields [3]Field

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
		panic("rules: more than three fields in a concatenation")
	}
	return f
}

// The keys that our sets have.
func frontendFields() Fields {
	return NewFields(Field{Kind: DestAddr}, Field{Kind: L4Protocol}, Field{Kind: DestPort})
}

// The statements.
type (
	// MatchProtocol: meta l4proto tcp.
	MatchProtocol struct{ Protocol Protocol }
	// MatchSource: ip saddr 10.244.0.0/16, or with Not, ip saddr != 10.244.0.0/16.
	MatchSource struct {
		Prefix netip.Prefix
		Not    bool
	}
	// MatchSet: ip saddr . ip daddr @hairpin.
	MatchSet struct {
		Fields Fields
		Set    SetID
	}
	// MatchDNAT: ct status dnat. The connection's destination was translated.
	MatchDNAT struct{}
	// MatchMarkUnset: meta mark & 0x4000 == 0.
	MatchMarkUnset struct{ Bits uint32 }
	// SetMark: meta mark set meta mark | 0x4000. Other bits stay as they are.
	SetMark struct{ Bits uint32 }
	// FlipMark: meta mark set meta mark ^ 0x4000.
	FlipMark struct{ Bits uint32 }
	// Dispatch: ip daddr . meta l4proto . th dport vmap @service-ips.
	Dispatch struct {
		Fields Fields
		Map    SetID
	}
	// DNAT: dnat ip to FIELDS map @MAP. Where the map has no such element, the
	// rule ends there and the next rule goes on.
	DNAT struct {
		Family Family
		Fields Fields
		Map    SetID
	}
	// Jump: jump CHAIN.
	Jump struct{ Chain string }
	// Return: return.
	Return struct{}
	// Reject: reject (ICMP port unreachable).
	Reject struct{}
	// Reset: reject with tcp reset. A rule that has it matches TCP first.
	Reset struct{}
	// Masquerade: masquerade fully-random.
	Masquerade struct{}
	// Unknown is something found in the kernel that is none of the above. It is
	// never written; a rule that holds one differs from every rule of ours.
	Unknown struct{ What string }
)

func (MatchProtocol) statement()  {}
func (MatchSource) statement()    {}
func (MatchSet) statement()       {}
func (MatchDNAT) statement()      {}
func (MatchMarkUnset) statement() {}
func (SetMark) statement()        {}
func (FlipMark) statement()       {}
func (Dispatch) statement()       {}
func (DNAT) statement()           {}
func (Jump) statement()           {}
func (Return) statement()         {}
func (Reject) statement()         {}
func (Reset) statement()          {}
func (Masquerade) statement()     {}
func (Unknown) statement()        {}
