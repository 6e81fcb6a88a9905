// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
)

// WriteText writes a state as `nft list ruleset` of nft 1.0.6 lists it, in the
// kernel's order where it is known, else in a fixed one: equal states give equal text.
// `nft -f` loads it, but for the rules of session
// affinity and of failover, which nft lists and does not load: it refuses them, or gives up.
func (s State) WriteText(w io.Writer) error { return s.writeText(w, false) }

// WriteNotes writes a state as WriteText does, with comments that say what each
// set and chain is for.
func (s State) WriteNotes(w io.Writer) error { return s.writeText(w, true) }

func (s State) writeText(w io.Writer, notes bool) error {
	var b strings.Builder
	for _, f := range Families {
		if t := s.Tables[f]; t != nil {
			writeTable(&b, s.Name, f, t, notes)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeTable(b *strings.Builder, name string, f Family, t *Table, notes bool) {
	fmt.Fprintf(b, "table %s %s {", f, printable.Word(name))
	if t.Tenure.Owner && t.Tenure.By.PID != 0 {
		b.WriteString(" # progname " + printable.Word(t.Tenure.By.Name))
	}
	b.WriteString("\n")
	blank := ""
	next := func(note string) {
		b.WriteString(blank)
		if blank = "\n"; notes && note != "" {
			b.WriteString("\t# " + printable.Line(note) + "\n")
		}
	}
	if flags := t.flags(); flags != nil {
		next("")
		b.WriteString("\tflags " + strings.Join(flags, ",") + "\n")
	}
	for _, id := range t.setsInOrder() {
		next(id.Kind.row().note)
		writeSet(b, f, id, t)
	}
	for _, foreign := range t.Foreign {
		next("")
		fmt.Fprintf(b, "\t# set %s is not nftproxy's\n", printable.Word(foreign))
	}
	for _, o := range t.Objects {
		next("")
		fmt.Fprintf(b, "\t# %s is not nftproxy's\n", o)
	}
	for _, o := range t.Odd {
		next("")
		fmt.Fprintf(b, "\t# %s\n", o)
	}
	for _, c := range t.chainsInOrder() {
		next(ParseChainID(c.Name).note())
		writeChain(b, c, f)
	}
	b.WriteString("}\n")
}

// flags returns nft's names of the table's flags.
func (t *Table) flags() (names []string) {
	if t.Dormant {
		names = append(names, "dormant")
	}
	return append(names, t.Tenure.Flags()...)
}

// shown returns the set's name for texts.
func (s SetID) shown() string { return printable.Word(s.Name()) }

func writeSet(b *strings.Builder, f Family, id SetID, t *Table) {
	d := declare(f, id.Kind)
	fmt.Fprintf(b, "\t%s %s {\n\t\t%s\n", id.Kind.word(), id.shown(), d.text())
	if m, ok := t.Affinity[id]; ok {
		fmt.Fprintf(b, "\t\tsize %d\n", m.Size)
	}
	if len(d.flags) > 0 {
		fmt.Fprintf(b, "\t\tflags %s\n", strings.Join(d.flags, ","))
	}
	if t.Counted && id.Kind.Serves() {
		b.WriteString("\t\tcounter\n")
	}
	line := id.Kind.inLine(f)
	elements := t.elementsInOrder(id)
	for i, e := range elements {
		switch {
		case i == 0:
			b.WriteString("\t\telements = { ")
		case i%line == 0:
			b.WriteString(",\n\t\t\t     ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(elementText(id.Kind, e, t.elementState(id, e.Key)))
	}
	if len(elements) > 0 {
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n")
}

func (d declaration) text() string {
	if d.typeof != "" {
		return "typeof " + d.typeof
	}
	s := "type " + strings.Join(d.key, " . ")
	if len(d.data) > 0 {
		s += " : " + strings.Join(d.data, " . ")
	}
	return s
}

// elementState returns what a listing shows of an element besides its key and value.
func (t *Table) elementState(id SetID, k Key) string {
	if l, ok := t.Affinity[id].Clients[k]; ok {
		return fmt.Sprintf(" timeout %s expires %s", timeText(l.Timeout), timeText(l.Expires))
	}
	if t.Counted && id.Kind.Serves() {
		c := t.Counters[id][k]
		return fmt.Sprintf(" counter packets %d bytes %d", c.Packets, c.Bytes)
	}
	return ""
}

// elementText writes an element of a set of some kind, with what a listing shows of it besides.
func elementText(k SetKind, e Element, state string) string {
	key := keyText(k, e) + state
	switch {
	case strings.HasPrefix(e.Goto, oddMark):
		e.Goto, state = "", e.Goto
		return elementText(k, e, "") + " " + state
	case e.Goto != "":
		return key + " : " + k.Verdict() + " " + printable.Word(e.Goto)
	case e.To.IsValid() && !k.Interval():
		return fmt.Sprintf("%s : %s . %d", key, e.To.Addr(), e.To.Port())
	}
	return key
}

func keyText(k SetKind, e Element) string {
	if k.Interval() {
		return rangeText(e)
	}
	var parts []string
	for _, v := range k.values(e.Key) {
		parts = append(parts, fmt.Sprint(v))
	}
	return strings.Join(parts, " . ")
}

// rangeText writes a range of addresses as a prefix where it is one, as nft does.
func rangeText(e Element) string {
	if p, ok := rangePrefix(e); ok {
		return prefixText(p)
	}
	return e.Addr.String() + "-" + e.To.Addr().String()
}

func writeChain(b *strings.Builder, c Chain, f Family) {
	fmt.Fprintf(b, "\tchain %s {\n", printable.Word(c.Name))
	if c.Hook != nil {
		fmt.Fprintf(b, "\t\ttype %s hook %s priority %s; policy accept;\n", c.Hook.Type(), c.Hook.Number, priorityText(*c.Hook))
	}
	for _, r := range c.Rules {
		b.WriteString("\t\t" + r.Text(f) + "\n")
	}
	b.WriteString("\t}\n")
}

// priorityText uses the names that nft knows, as nft does: exactly, or with a number
// of at most 10 added.
func priorityText(h Hook) string {
	for _, named := range []struct {
		name     string
		priority int32
		only     bool // on the hook
		hook     HookNumber
	}{
		{name: "raw", priority: -300}, {name: "mangle", priority: -150},
		{name: "dstnat", priority: priorityDstNAT, only: true, hook: HookPrerouting},
		{name: "filter", priority: 0}, {name: "security", priority: 50},
		{name: "srcnat", priority: prioritySrcNAT, only: true, hook: HookPostrouting},
	} {
		switch d := h.Priority - named.priority; {
		case named.only && h.Number != named.hook:
		case d == 0:
			return named.name
		case d > 0 && d <= 10:
			return fmt.Sprintf("%s + %d", named.name, d)
		case d < 0 && d >= -10:
			return fmt.Sprintf("%s - %d", named.name, -d)
		}
	}
	return fmt.Sprint(h.Priority)
}

// listed returns the rule as nft lists it: without a match of the protocol that
// another statement implies, and with that protocol's name where it knows the protocol of ports.
func (r Rule) listed() (listed Rule, ports string) {
	ports = "th"
	for i, s := range r {
		if p, ok := s.(MatchProtocol); ok && i+1 < len(r) {
			switch next := r[i+1].(type) {
			case Reset:
				continue
			case DNAT:
				if slices.ContainsFunc(next.Fields.All(), Field.hashesPorts) {
					ports = p.Protocol.String()
					continue
				}
			case DNATRemembered:
				ports = p.Protocol.String()
			}
		}
		listed = append(listed, s)
	}
	return listed, ports
}

// Text returns the rule in nft's syntax, as in a table of a family.
func (r Rule) Text(f Family) string {
	listed, ports := r.listed()
	words := make([]string, len(listed))
	for i, s := range listed {
		words[i] = s.nft(f)
	}
	text := strings.Join(words, " ")
	if ports != "th" {
		text = strings.NewReplacer("th sport", ports+" sport", "th dport", ports+" dport").Replace(text)
	}
	return text
}
