// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
)

// entry is a JSON object whose first names come in nft's order.
type entry struct {
	Family  string `json:"family"`
	Name    string `json:"name,omitempty"`
	Table   string `json:"table,omitempty"`
	Chain   string `json:"chain,omitempty"`
	Comment string `json:"comment,omitempty"`
	Type    any    `json:"type,omitempty"`
	hookEntry
	setEntry
	Expr []object `json:"expr,omitempty"`
}

// hookEntry is what a base chain has besides.
type hookEntry struct {
	Hook   string `json:"hook,omitempty"`
	Prio   *int32 `json:"prio,omitempty"`
	Policy string `json:"policy,omitempty"`
}

// setEntry is what a set or a map has besides; a table may have flags, too.
type setEntry struct {
	Map   string   `json:"map,omitempty"`
	Size  uint32   `json:"size,omitempty"`
	Flags any      `json:"flags,omitempty"` // a list; of a table with one flag, that
	Elem  []any    `json:"elem,omitempty"`
	Stmt  []object `json:"stmt,omitempty"`
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
	switch flags := t.flags(); len(flags) {
	case 0:
	case 1:
		table.Flags = flags[0]
	default:
		table.Flags = flags
	}
	j.add("table", table, "")
	for _, id := range t.setsInOrder() {
		j.set(id, t)
	}
	chains := t.chainsInOrder()
	for _, c := range chains {
		e := entry{Name: c.Name}
		if c.Hook != nil {
			e.Type, e.Hook, e.Prio, e.Policy = c.Hook.Type(), c.Hook.Number.String(), &c.Hook.Priority, "accept"
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
	e := entry{Name: id.Name(), Type: d.key}
	if e.Size = t.Affinity[id].Size; len(d.flags) > 0 {
		e.Flags = d.flags
	}
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
	if l, ok := t.Affinity[id].Clients[k]; ok {
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

func (r Rule) json(f Family) []object {
	listed, ports := r.listed()
	var out []object
	for _, s := range listed {
		out = append(out, s.nftJSON(f, ports)...)
	}
	return out
}
