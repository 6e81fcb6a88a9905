// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"strings"
)

// What texts and JSON of nft are made of.

// object is a JSON object. The parts of rules are objects of one name.
type object = map[string]any

// one is a part of a rule.
func one(name string, value any) []object { return []object{{name: value}} }

func concat(parts ...any) object { return object{"concat": parts} }

func match(not bool, left, right any) []object {
	op := "=="
	if not {
		op = "!="
	}
	return one("match", object{"op": op, "left": left, "right": right})
}

func metaJSON(key string) object { return object{"meta": object{"key": key}} }

func payload(protocol, field string) object {
	return object{"payload": object{"protocol": protocol, "field": field}}
}

func fibType(of string) object {
	return object{"fib": object{"result": "type", "flags": []string{of}}}
}

func markJSON(operator string, bits uint32) []object {
	return one("mangle", object{"key": metaJSON("mark"), "value": object{operator: []any{metaJSON("mark"), bits}}})
}

// lookupJSON is a value that is looked up in a map.
func lookupJSON(key object, in SetID) object {
	return object{"map": object{"key": key, "data": "@" + in.Name()}}
}

// prefixText leaves out the length of a single address's prefix, as nft does.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func prefixJSON(p netip.Prefix) any {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return object{"prefix": object{"addr": p.Addr(), "len": p.Bits()}}
}

// notText is nft's operator of what does not match.
func notText(not bool) string {
	if not {
		return "!= "
	}
	return ""
}

// timeText writes milliseconds as nft does: 1d2h3m4s5ms.
func timeText(ms uint64) string {
	var b strings.Builder
	for _, u := range []struct {
		name string
		ms   uint64
	}{{"d", 86400e3}, {"h", 3600e3}, {"m", 60e3}, {"s", 1e3}, {"ms", 1}} {
		if n := ms / u.ms; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
		}
		ms %= u.ms
	}
	return b.String()
}
