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
	SourceAddr   FieldKind = iota + 1 // ip saddr
	DestAddr                          // ip daddr
	L4Protocol                        // meta l4proto
	DestPort                          // th dport
	Numgen                            // numgen inc mod Mod offset Offset
	RandomNumber                      // numgen random mod Mod offset Offset
	ClientHash                        // jhash ip saddr . th sport mod Mod seed 0x6e667470 offset Offset
	OriginalAddr                      // ct original ip daddr
	OriginalPort                      // ct original proto-dst
)

// HashSeed is the seed of ClientHash: always the same, so that a client keeps its
// endpoint when nftproxy starts anew.
const HashSeed = 0x6e667470

// Field is a value that is looked up in a set: a field of the packet or of its
// connection, the next number of the rule's own counter, a random number, or a hash.
type Field struct {
	Kind        FieldKind
	Mod, Offset uint32 // Numgen, RandomNumber and ClientHash only
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

// The statements.
type (
	// MatchProtocol: meta l4proto tcp.
	MatchProtocol struct{ Protocol Protocol }
	// MatchSource: ip saddr 10.244.0.0/16, or with Not, ip saddr != 10.244.0.0/16.
	MatchSource struct {
		Prefix netip.Prefix
		Not    bool
	}
	// MatchInterface: iifname "cni0", or with Not, iifname != "cni0". A name that
	// ends in * matches all that begin so.
	MatchInterface struct {
		Name string
		Not  bool
	}
	// MatchLocalSource: fib saddr type local. The packet comes from this node itself.
	MatchLocalSource struct{}
	// MatchLocalDest: ip daddr != 127.0.0.0/8 fib daddr type local. The packet
	// goes to an address of this node, but not to a loopback address.
	MatchLocalDest struct{}
	// MatchSet: ip saddr . ip daddr @hairpin, or with Not, ip saddr != @sources/default/web.
	MatchSet struct {
		Fields Fields
		Set    SetID
		Not    bool
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
	// DNATRemembered: ip daddr set ip saddr map @CLIENTS dnat ip to numgen inc mod 1 offset ID .
	// ip daddr . th dport map @MAP. The endpoint that the client is remembered with, if it is still among
	// those that Map has of ID. Where Clients has no such client the rule ends at once, and where Map has
	// no such endpoint it ends with the address in the packet: see RestoreDest. th dport is what nft
	// lists, but the port is that of the endpoint, too.
	DNATRemembered struct {
		Family  Family
		Clients SetID
		ID      uint32
		Map     SetID
	}
	// RestoreDest: ip daddr set ct original ip daddr. The packet goes where it went at first.
	RestoreDest struct{}
	// Forget: delete @affinity/default/web { ip saddr : ip daddr . th dport }. It has no effect
	// on a client that nobody remembers; what the client is remembered with is not compared.
	Forget struct{ Set SetID }
	// Remember: update @affinity/default/web { ip saddr timeout 3h : ip daddr . th dport }.
	// The client's endpoint, after translation and before masquerading. A client that is there
	// already stays for another Seconds with the endpoint that it has.
	Remember struct {
		Set     SetID
		Seconds uint32
	}
	// Jump: jump CHAIN.
	Jump struct{ Chain string }
	// Goto: goto CHAIN. Jump that does not come back.
	Goto struct{ Chain string }
	// Return: return.
	Return struct{}
	// Reject: reject (ICMP port unreachable).
	Reject struct{}
	// Reset: reject with tcp reset. A rule that has it matches TCP first.
	Reset struct{}
	// RejectProtocol: reject with icmp prot-unreachable. In IPv4 only.
	RejectProtocol struct{}
	// Drop: drop.
	Drop struct{}
	// Masquerade: masquerade fully-random.
	Masquerade struct{}
	// Unknown is something found in the kernel that is none of the above. It is
	// never written; a rule that holds one differs from every rule of ours.
	Unknown struct{ What string }
)

func (MatchProtocol) statement()    {}
func (MatchSource) statement()      {}
func (MatchInterface) statement()   {}
func (MatchLocalSource) statement() {}
func (MatchLocalDest) statement()   {}
func (MatchSet) statement()         {}
func (MatchDNAT) statement()        {}
func (MatchMarkUnset) statement()   {}
func (SetMark) statement()          {}
func (FlipMark) statement()         {}
func (Dispatch) statement()         {}
func (DNAT) statement()             {}
func (DNATRemembered) statement()   {}
func (RestoreDest) statement()      {}
func (Forget) statement()           {}
func (Remember) statement()         {}
func (Jump) statement()             {}
func (Goto) statement()             {}
func (Return) statement()           {}
func (Reject) statement()           {}
func (Reset) statement()            {}
func (RejectProtocol) statement()   {}
func (Drop) statement()             {}
func (Masquerade) statement()       {}
func (Unknown) statement()          {}
