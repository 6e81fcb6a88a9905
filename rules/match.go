// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"

	"github.com/nftproxy/nftproxy/printable"
)

// The statements that match packets, and those that mark them.
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
)

func (s MatchProtocol) nft(Family) string { return "meta l4proto " + s.Protocol.String() }
func (s MatchProtocol) nftJSON(Family, string) []object {
	return match(false, metaJSON("l4proto"), s.Protocol.String())
}

func (s MatchSource) nft(f Family) string {
	return fmt.Sprintf("%s saddr %s%s", f, notText(s.Not), prefixText(s.Prefix))
}
func (s MatchSource) nftJSON(f Family, _ string) []object {
	return match(s.Not, payload(f.String(), "saddr"), prefixJSON(s.Prefix))
}

func (s MatchInterface) nft(Family) string {
	return fmt.Sprintf("iifname %s%q", notText(s.Not), printable.Word(s.Name))
}
func (s MatchInterface) nftJSON(Family, string) []object {
	return match(s.Not, metaJSON("iifname"), s.Name)
}

func (MatchLocalSource) nft(Family) string { return "fib saddr type local" }
func (MatchLocalSource) nftJSON(Family, string) []object {
	return match(false, fibType("saddr"), "local")
}

// Loopback addresses.
var loopback = [...]netip.Prefix{
	IPv4: netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8),
	IPv6: netip.PrefixFrom(netip.IPv6Loopback(), 128),
}

func (MatchLocalDest) nft(f Family) string {
	return fmt.Sprintf("%s daddr != %s fib daddr type local", f, prefixText(loopback[f]))
}
func (MatchLocalDest) nftJSON(f Family, _ string) []object {
	return append(match(true, payload(f.String(), "daddr"), prefixJSON(loopback[f])), match(false, fibType("daddr"), "local")...)
}

func (s MatchSet) nft(f Family) string {
	return fmt.Sprintf("%s %s@%s", s.Fields.nft(f), notText(s.Not), s.Set.shown())
}
func (s MatchSet) nftJSON(f Family, ports string) []object {
	return match(s.Not, s.Fields.nftJSON(f, ports), "@"+s.Set.Name())
}
func (s MatchSet) refersTo() references { return references{sets: []SetID{s.Set}} }

func (MatchDNAT) nft(Family) string { return "ct status dnat" }
func (MatchDNAT) nftJSON(Family, string) []object {
	return one("match", object{"op": "in", "left": object{"ct": object{"key": "status"}}, "right": "dnat"})
}

func (s MatchMarkUnset) nft(Family) string {
	if s.Bits == 1<<31 {
		return "meta mark 0x00000000/1" // nft sees a prefix
	}
	return fmt.Sprintf("meta mark & 0x%08x == 0x00000000", s.Bits)
}
func (s MatchMarkUnset) nftJSON(Family, string) []object {
	if s.Bits == 1<<31 {
		return match(false, metaJSON("mark"), object{"prefix": object{"addr": 0, "len": 1}})
	}
	return match(false, object{"&": []any{metaJSON("mark"), s.Bits}}, 0)
}

func (s SetMark) nft(Family) string { return fmt.Sprintf("meta mark set meta mark | 0x%08x", s.Bits) }
func (s SetMark) nftJSON(Family, string) []object {
	return markJSON("|", s.Bits)
}

func (s FlipMark) nft(Family) string {
	return fmt.Sprintf("meta mark set meta mark ^ 0x%08x", s.Bits)
}
func (s FlipMark) nftJSON(Family, string) []object { return markJSON("^", s.Bits) }
