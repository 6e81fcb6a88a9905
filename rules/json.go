// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
)

// object is a JSON object. The parts of rules are objects of one name.
type object = map[string]any

// entry is a JSON object whose first names come in nft's order.
type entry struct {
	Family  string   `json:"family"`
	Name    string   `json:"name,omitempty"`
	Table   string   `json:"table,omitempty"`
	Chain   string   `json:"chain,omitempty"`
	Comment string   `json:"comment,omitempty"`
	Type    any      `json:"type,omitempty"`
	Map     string   `json:"map,omitempty"`
	Hook    string   `json:"hook,omitempty"`
	Prio    *int32   `json:"prio,omitempty"`
	Policy  string   `json:"policy,omitempty"`
	Size    uint32   `json:"size,omitempty"`
	Flags   []string `json:"flags,omitempty"`
	Elem    []any    `json:"elem,omitempty"`
	Stmt    []object `json:"stmt,omitempty"`
	Expr    []object `json:"expr,omitempty"`
}

// WriteJSON writes a state by libnftables' JSON schema (libnftables-json(5)), in the
// order of `nft -j list ruleset`, an object a line. It has no handles: those are the
// kernel's.
func (s State) WriteJSON(w io.Writer) error { return s.writeJSON(w, false) }

// WriteJSONNotes writes a state as WriteJSON does, with comments that say what each
// set and chain is for.
func (s State) WriteJSONNotes(w io.Writer) error { return s.writeJSON(w, true) }

func (s State) writeJSON(w io.Writer, notes bool) error {
	if _, err := io.WriteString(w, `{"nftables": [`+"\n"+`{"metainfo":{"json_schema_version":1}}`); err != nil {
		return err
	}
	for _, f := range Families {
		t := s.Tables[f]
		if t == nil {
			continue
		}
		j := tableJSON{w: w, f: f, name: s.Name, notes: notes}
		j.table(t)
		if j.err != nil {
			return fmt.Errorf("write table %s %s as JSON: %w", f, s.Name, j.err)
		}
	}
	_, err := io.WriteString(w, "\n]}\n")
	return err
}

// tableJSON writes one table. It remembers its first error.
type tableJSON struct {
	w     io.Writer
	f     Family
	name  string
	notes bool
	err   error
}

func (j *tableJSON) add(kind string, e entry, note string) {
	if e.Family = j.f.String(); kind != "table" {
		e.Table = j.name
	}
	if j.notes {
		e.Comment = note
	}
	if j.err != nil {
		return
	}
	var line bytes.Buffer
	line.WriteString(",\n")
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if j.err = encoder.Encode(map[string]entry{kind: e}); j.err == nil {
		_, j.err = j.w.Write(printable.JSON(bytes.TrimRight(line.Bytes(), "\n")))
	}
}

func (j *tableJSON) table(t *Table) {
	table := entry{Name: j.name}
	if t.Dormant {
		table.Flags = []string{"dormant"}
	}
	j.add("table", table, "")
	for _, id := range t.setsInOrder() {
		j.set(id, t)
	}
	chains := t.chainsInOrder()
	for _, c := range chains {
		e := entry{Name: c.Name}
		if c.Hook != nil {
			e.Type, e.Hook, e.Prio, e.Policy = "nat", c.Hook.Number.String(), &c.Hook.Priority, "accept"
		}
		j.add("chain", e, ParseChainID(c.Name).note())
	}
	for _, c := range chains {
		for _, r := range c.Rules {
			j.add("rule", entry{Chain: c.Name, Expr: r.json(j.f)}, "")
		}
	}
}

func (j *tableJSON) set(id SetID, t *Table) {
	d := declare(j.f, id.Kind)
	e := entry{Name: id.Name(), Type: d.key, Flags: d.flags, Size: t.Affinity[id].Size}
	if len(d.key) == 1 {
		e.Type = d.key[0]
	}
	e.Map = strings.Join(d.data, " . ")
	if t.Counted && id.Kind.Serves() {
		e.Stmt = []object{{"counter": nil}}
	}
	for _, el := range t.elementsInOrder(id) {
		e.Elem = append(e.Elem, elementJSON(id.Kind, el, t.elementStateJSON(id, el.Key)))
	}
	j.add(id.Kind.word(), e, id.Kind.row().note)
}

// elementStateJSON returns what a listing shows of an element besides its key and value; nil: nothing.
func (t *Table) elementStateJSON(id SetID, k Key) object {
	if l, ok := t.Affinity[id].Clients[k.Addr]; ok {
		return object{"timeout": l.Timeout / 1000, "expires": l.Expires / 1000}
	}
	if t.Counted && id.Kind.Serves() {
		c := t.Counters[id][k]
		return object{"counter": object{"packets": c.Packets, "bytes": c.Bytes}}
	}
	return nil
}

func elementJSON(k SetKind, e Element, state object) any {
	key := keyJSON(k, e)
	if state != nil {
		state["val"] = key
		key = object{"elem": state}
	}
	switch {
	case e.Goto != "":
		return []any{key, object{k.Verdict(): object{"target": e.Goto}}}
	case e.To.IsValid() && !k.Interval():
		return []any{key, concat(e.To.Addr(), e.To.Port())}
	}
	return key
}

func concat(parts ...any) object { return object{"concat": parts} }

func keyJSON(k SetKind, e Element) any {
	if k.Interval() {
		return rangeJSON(e)
	}
	values := k.values(e.Key)
	if len(values) == 1 {
		return values[0]
	}
	return concat(values...)
}

func rangeJSON(e Element) any {
	if p, ok := rangePrefix(e); ok {
		return prefixJSON(p)
	}
	return object{"range": []any{e.Addr, e.To.Addr()}}
}

func prefixJSON(p netip.Prefix) any {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return object{"prefix": object{"addr": p.Addr(), "len": p.Bits()}}
}

func (r Rule) json(f Family) []object {
	listed, ports := r.listed()
	var out []object
	for _, s := range listed {
		out = append(out, statementJSON(s, f, ports)...)
	}
	return out
}

// statementJSON returns the parts of a rule that stand for a statement; ports is
// what a hash of ports calls the protocol.
func statementJSON(s Statement, f Family, ports string) []object {
	one := func(name string, value any) []object { return []object{{name: value}} }
	switch s := s.(type) {
	case MatchProtocol:
		return match(false, metaJSON("l4proto"), s.Protocol.String())
	case MatchSource:
		return match(s.Not, payload(f.String(), "saddr"), prefixJSON(s.Prefix))
	case MatchInterface:
		return match(s.Not, metaJSON("iifname"), s.Name)
	case MatchLocalSource:
		return match(false, fibType("saddr"), "local")
	case MatchLocalDest:
		return append(match(true, payload(f.String(), "daddr"), prefixJSON(loopback[f])), match(false, fibType("daddr"), "local")...)
	case MatchSet:
		return match(s.Not, fieldsJSON(s.Fields, f, ports), "@"+s.Set.Name())
	case MatchDNAT:
		return one("match", object{"op": "in", "left": object{"ct": object{"key": "status"}}, "right": "dnat"})
	case MatchMarkUnset:
		if s.Bits == 1<<31 { // nft sees a prefix
			return match(false, metaJSON("mark"), object{"prefix": object{"addr": 0, "len": 1}})
		}
		return match(false, object{"&": []any{metaJSON("mark"), s.Bits}}, 0)
	case SetMark:
		return markJSON("|", s.Bits)
	case FlipMark:
		return markJSON("^", s.Bits)
	case Dispatch:
		return one("vmap", object{"key": fieldsJSON(s.Fields, f, ports), "data": "@" + s.Map.Name()})
	case DNAT:
		to := object{"map": object{"key": fieldsJSON(s.Fields, f, ports), "data": "@" + s.Map.Name()}}
		return one("dnat", object{"family": s.Family.String(), "addr": to})
	case DNATRemembered:
		client := object{"map": object{"key": payload(f.String(), "saddr"), "data": "@" + s.Clients.Name()}}
		to := object{"map": object{"key": fieldsJSON(s.key(), f, ports), "data": "@" + s.Map.Name()}}
		return append(one("mangle", object{"key": payload(f.String(), "daddr"), "value": client}),
			one("dnat", object{"family": s.Family.String(), "addr": to})...)
	case RestoreDest:
		return one("mangle", object{"key": payload(f.String(), "daddr"), "value": fieldJSON(Field{Kind: OriginalAddr}, f, ports)})
	case Forget:
		return one("map", object{"op": "delete", "map": "@" + s.Set.Name(), "elem": payload(f.String(), "saddr"),
			"data": concat(payload(f.String(), "daddr"), payload("th", "dport"))})
	case Remember:
		return one("map", object{"op": "update", "map": "@" + s.Set.Name(),
			"elem": object{"elem": object{"val": payload(f.String(), "saddr"), "timeout": s.Seconds}},
			"data": concat(payload(f.String(), "daddr"), payload("th", "dport"))})
	case Jump:
		return one("jump", object{"target": s.Chain})
	case Goto:
		return one("goto", object{"target": s.Chain})
	case Return:
		return one("return", nil)
	case Reject:
		return one("reject", object{"type": map[Family]string{IPv4: "icmp", IPv6: "icmpv6"}[f], "expr": "port-unreachable"})
	case Reset:
		return one("reject", object{"type": "tcp reset"})
	case RejectProtocol:
		return one("reject", object{"type": "icmp", "expr": "prot-unreachable"})
	case Drop:
		return one("drop", nil)
	case Masquerade:
		return one("masquerade", object{"flags": "fully-random"})
	case Unknown:
		return one("unknown", s.What)
	}
	panic(fmt.Sprintf("rules: no JSON for statement %T", s))
}

func match(not bool, left, right any) []object {
	op := "=="
	if not {
		op = "!="
	}
	return []object{{"match": object{"op": op, "left": left, "right": right}}}
}

func metaJSON(key string) object { return object{"meta": object{"key": key}} }

func payload(protocol, field string) object {
	return object{"payload": object{"protocol": protocol, "field": field}}
}

func fibType(of string) object {
	return object{"fib": object{"result": "type", "flags": []string{of}}}
}

func markJSON(operator string, bits uint32) []object {
	return []object{{"mangle": object{"key": metaJSON("mark"), "value": object{operator: []any{metaJSON("mark"), bits}}}}}
}

func fieldsJSON(fs Fields, f Family, ports string) object {
	var parts []any
	for _, fd := range fs.All() {
		parts = append(parts, fieldJSON(fd, f, ports))
	}
	if len(parts) == 1 {
		return parts[0].(object)
	}
	return concat(parts...)
}

func fieldJSON(fd Field, f Family, ports string) object {
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
	case ClientHash:
		hash := object{"mod": fd.Mod, "seed": uint32(HashSeed), "expr": concat(payload(f.String(), "saddr"), payload(ports, "sport"))}
		if fd.Offset != 0 {
			hash["offset"] = fd.Offset
		}
		return object{"jhash": hash}
	case OriginalAddr:
		return object{"ct": object{"key": f.String() + " daddr", "dir": "original"}}
	case OriginalPort:
		return object{"ct": object{"key": "proto-dst", "dir": "original"}}
	}
	panic(fmt.Sprintf("rules: no JSON for field kind %d", fd.Kind))
}
