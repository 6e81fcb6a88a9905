// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
)

// The statements that lead to chains by a map, that translate, and that remember.
type (
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
)

func (s Dispatch) nft(f Family) string { return s.Fields.nft(f) + " vmap @" + s.Map.shown() }
func (s Dispatch) nftJSON(f Family, ports string) []object {
	return one("vmap", object{"key": s.Fields.nftJSON(f, ports), "data": "@" + s.Map.Name()})
}
func (s Dispatch) refersTo() references { return references{sets: []SetID{s.Map}} }

func (s DNAT) nft(f Family) string {
	return fmt.Sprintf("dnat %s to %s map @%s", s.Family, s.Fields.nft(f), s.Map.shown())
}
func (s DNAT) nftJSON(f Family, ports string) []object {
	return dnatJSON(s.Family, lookupJSON(s.Fields.nftJSON(f, ports), s.Map))
}
func (s DNAT) refersTo() references { return references{sets: []SetID{s.Map}} }

func dnatJSON(f Family, to object) []object {
	return one("dnat", object{"family": f.String(), "addr": to})
}

func (s DNATRemembered) nft(f Family) string {
	key := s.key()
	return fmt.Sprintf("%s daddr set %s saddr map @%s dnat %s to %s map @%s", f, f, s.Clients.shown(), s.Family, key.nft(f), s.Map.shown())
}
func (s DNATRemembered) nftJSON(f Family, ports string) []object {
	key := s.key()
	client := lookupJSON(payload(f.String(), "saddr"), s.Clients)
	return append(one("mangle", object{"key": payload(f.String(), "daddr"), "value": client}),
		dnatJSON(s.Family, lookupJSON(key.nftJSON(f, ports), s.Map))...)
}
func (s DNATRemembered) refersTo() references { return references{sets: []SetID{s.Clients, s.Map}} }

// key is what is looked up in Map.
func (s DNATRemembered) key() Fields {
	return NewFields(Field{Kind: Numgen, Mod: 1, Offset: s.ID}, Field{Kind: DestAddr}, Field{Kind: DestPort})
}

// Key is the key of an endpoint in Map.
func (s DNATRemembered) Key(to netip.AddrPort) Key {
	return Key{ID: s.ID, Addr: to.Addr(), Port: to.Port()}
}

func (RestoreDest) nft(f Family) string {
	return fmt.Sprintf("%s daddr set ct original %s daddr", f, f)
}
func (RestoreDest) nftJSON(f Family, ports string) []object {
	return one("mangle", object{"key": payload(f.String(), "daddr"), "value": Field{Kind: OriginalAddr}.nftJSON(f, ports)})
}

func (s Forget) nft(f Family) string {
	return fmt.Sprintf("delete @%s { %s saddr : %s daddr . th dport }", s.Set.shown(), f, f)
}
func (s Forget) nftJSON(f Family, _ string) []object {
	return one("map", object{"op": "delete", "map": "@" + s.Set.Name(), "elem": payload(f.String(), "saddr"),
		"data": concat(payload(f.String(), "daddr"), payload("th", "dport"))})
}
func (s Forget) refersTo() references { return references{sets: []SetID{s.Set}} }

func (s Remember) nft(f Family) string {
	return fmt.Sprintf("update @%s { %s saddr timeout %s : %s daddr . th dport }", s.Set.shown(), f, timeText(uint64(s.Seconds)*1000), f)
}
func (s Remember) nftJSON(f Family, _ string) []object {
	return one("map", object{"op": "update", "map": "@" + s.Set.Name(),
		"elem": object{"elem": object{"val": payload(f.String(), "saddr"), "timeout": s.Seconds}},
		"data": concat(payload(f.String(), "daddr"), payload("th", "dport"))})
}
func (s Remember) refersTo() references { return references{sets: []SetID{s.Set}} }
