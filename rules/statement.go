// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"github.com/nftproxy/nftproxy/printable"
)

// Statement is a part of a rule. The list of its kinds is closed: each is here, in match.go, in note.go or in
// translate.go, and the kernel's codec and the packet tracer know all of them. Statements are
// comparable with ==.
type Statement interface {
	// nft returns the statement in nft's syntax, as in a table of a family.
	nft(f Family) string
	// nftJSON returns the parts of a rule that stand for it in nft's JSON; ports is what the rule calls the
	// protocol that has ports.
	nftJSON(f Family, ports string) []object
}

// referrer is a statement that refers to a chain or to sets.
type referrer interface{ refersTo() references }

// references are what a statement refers to.
type references struct {
	chain string
	sets  []SetID
}

// refersTo returns what a statement refers to.
func refersTo(s Statement) references {
	if r, ok := s.(referrer); ok {
		return r.refersTo()
	}
	return references{}
}

// The statements that decide, or lead to other chains.
type (
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
	// Unknown is something found in the kernel that is none of ours. It is
	// never written; a rule that holds one differs from every rule of ours.
	Unknown struct{ What string }
)

func (s Jump) nft(Family) string               { return "jump " + printable.Word(s.Chain) }
func (s Jump) nftJSON(Family, string) []object { return one("jump", object{"target": s.Chain}) }
func (s Jump) refersTo() references            { return references{chain: s.Chain} }

func (s Goto) nft(Family) string               { return "goto " + printable.Word(s.Chain) }
func (s Goto) nftJSON(Family, string) []object { return one("goto", object{"target": s.Chain}) }
func (s Goto) refersTo() references            { return references{chain: s.Chain} }

func (Return) nft(Family) string               { return "return" }
func (Return) nftJSON(Family, string) []object { return one("return", nil) }

func (Reject) nft(Family) string { return "reject" }
func (Reject) nftJSON(f Family, _ string) []object {
	return one("reject", object{"type": [...]string{IPv4: "icmp", IPv6: "icmpv6"}[f], "expr": "port-unreachable"})
}

func (Reset) nft(Family) string { return "reject with tcp reset" }
func (Reset) nftJSON(Family, string) []object {
	return one("reject", object{"type": "tcp reset"})
}

func (RejectProtocol) nft(Family) string { return "reject with icmp prot-unreachable" }
func (RejectProtocol) nftJSON(Family, string) []object {
	return one("reject", object{"type": "icmp", "expr": "prot-unreachable"})
}

func (Drop) nft(Family) string               { return "drop" }
func (Drop) nftJSON(Family, string) []object { return one("drop", nil) }

func (Masquerade) nft(Family) string { return "masquerade fully-random" }
func (Masquerade) nftJSON(Family, string) []object {
	return one("masquerade", object{"flags": "fully-random"})
}

func (s Unknown) nft(Family) string               { return "# unknown: " + printable.Line(s.What) }
func (s Unknown) nftJSON(Family, string) []object { return one("unknown", s.What) }
