// SPDX-License-Identifier: Apache-2.0

package rules

import "fmt"

// The statements of failover.
type (
	// MatchUnassured: ct status ! assured. The connection is not settled: neither its handshake is over, nor have several
	// packets gone both ways.
	MatchUnassured struct{}
	// MatchNew: ct state new. No answer has come.
	MatchNew struct{}
	// MatchReply: ct direction reply. The packet is an answer.
	MatchReply struct{}
	// Once: limit rate 1/day burst 1 packets. It matches one packet.
	Once struct{}
	// Note: add @unanswered { ip saddr . meta l4proto . th sport timeout 1s : ip daddr . th dport }, without the second part
	// where Set is no map. With Update, what is there already stays for another Seconds.
	Note struct {
		Fields  Fields // as many as the set's keys have parts
		Set     SetID
		Seconds uint32
		Update  bool
	}
)

func (MatchUnassured) nft(Family) string { return "ct status ! assured" }
func (MatchUnassured) nftJSON(Family, string) []object {
	return one("match", object{"op": "!", "left": object{"ct": object{"key": "status"}}, "right": "assured"})
}

func (MatchNew) nft(Family) string { return "ct state new" }
func (MatchNew) nftJSON(Family, string) []object {
	return one("match", object{"op": "in", "left": object{"ct": object{"key": "state"}}, "right": "new"})
}

func (MatchReply) nft(Family) string { return "ct direction reply" }
func (MatchReply) nftJSON(Family, string) []object {
	return match(false, object{"ct": object{"key": "direction"}}, "reply")
}

func (Once) nft(Family) string { return "limit rate 1/day burst 1 packets" }
func (Once) nftJSON(Family, string) []object {
	return one("limit", object{"rate": 1, "burst": 1, "per": "day"})
}

func (s Note) op() string {
	if s.Update {
		return "update"
	}
	return "add"
}

func (s Note) nft(f Family) string {
	text := fmt.Sprintf("%s @%s { %s timeout %s", s.op(), s.Set.shown(), s.Fields.nft(f), timeText(uint64(s.Seconds)*1000))
	if s.Set.Kind.IsMap() {
		text += fmt.Sprintf(" : %s daddr . th dport", f)
	}
	return text + " }"
}

func (s Note) nftJSON(f Family, _ string) []object {
	elem := object{"elem": object{"val": s.Fields.nftJSON(f, "th"), "timeout": s.Seconds}}
	if !s.Set.Kind.IsMap() {
		return one("set", object{"op": s.op(), "elem": elem, "set": "@" + s.Set.Name()})
	}
	return one("map", object{"op": s.op(), "map": "@" + s.Set.Name(), "elem": elem,
		"data": concat(payload(f.String(), "daddr"), payload("th", "dport"))})
}
func (s Note) refersTo() references { return references{sets: []SetID{s.Set}} }
