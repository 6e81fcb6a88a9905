// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// WriteText writes a state as nft text that `nft -f` loads, tables, sets and
// chains in a fixed order: equal states give equal text.
func (s State) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range Families {
		if t := s.Tables[f]; t != nil {
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			writeTable(&b, s.Name, f, t)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeTable(b *strings.Builder, name string, f Family, t *Table) {
	fmt.Fprintf(b, "table %s %s {\n", f, name)
	if t.Dormant {
		b.WriteString("\tflags dormant\n\n")
	}
	for _, id := range slices.SortedFunc(maps.Keys(t.Sets), SetID.compare) {
		writeSet(b, f, id, t.Sets[id])
	}
	chains := slices.SortedFunc(maps.Values(t.Chains), func(a, b Chain) int {
		return cmp.Or(cmp.Compare(chainRank(a), chainRank(b)), cmp.Compare(a.Name, b.Name))
	})
	for i, c := range chains {
		if i > 0 {
			b.WriteString("\n")
		}
		writeChain(b, c, f)
	}
	b.WriteString("}\n")
}

func writeSet(b *strings.Builder, f Family, id SetID, elements map[Key]Value) {
	word, types := setType(f, id.Kind)
	fmt.Fprintf(b, "\t%s %s {\n\t\t%s\n", word, id.Name(), types)
	for i, k := range slices.SortedFunc(maps.Keys(elements), Key.compare) {
		lead := ",\n\t\t\t     "
		if i == 0 {
			lead = "\t\telements = { "
		}
		b.WriteString(lead + elementTextOf(id.Kind, Element{k, elements[k]}))
	}
	if len(elements) > 0 {
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n\n")
}

// setType returns the word that starts a set's declaration, and its types.
func setType(f Family, k SetKind) (word, types string) {
	addr := "ipv4_addr"
	if f == IPv6 {
		addr = "ipv6_addr"
	}
	frontend := "type " + addr + " . inet_proto . inet_service : "
	switch k {
	case Protocols:
		return "set", "type inet_proto"
	case Endpoints:
		return "map", "typeof numgen inc mod 1 . numgen inc mod 2 : " + f.String() + " daddr . th dport"
	case Hairpin:
		return "set", "type " + addr + " . " + addr
	case Single:
		return "map", frontend + addr + " . inet_service"
	case ServiceIPs:
		return "map", frontend + "verdict"
	default:
		return "set", "type " + addr
	}
}

func elementTextOf(k SetKind, e Element) string {
	if k == Hairpin {
		return fmt.Sprintf("%s . %s", e.Addr, e.Addr)
	}
	return elementText(e)
}

// elementText writes an element; that of Hairpin with one address.
func elementText(e Element) string {
	var key string
	switch {
	case e.Addr.IsValid() && e.Protocol != 0:
		key = fmt.Sprintf("%s . %s . %d", e.Addr, e.Protocol, e.Port)
	case e.Addr.IsValid():
		key = e.Addr.String()
	case e.Protocol != 0:
		key = e.Protocol.String()
	default:
		key = fmt.Sprintf("%d . %d", e.ID, e.Index)
	}
	switch {
	case e.Goto != "":
		return key + " : goto " + e.Goto
	case e.To.IsValid():
		return fmt.Sprintf("%s : %s . %d", key, e.To.Addr(), e.To.Port())
	}
	return key
}

func writeChain(b *strings.Builder, c Chain, f Family) {
	fmt.Fprintf(b, "\tchain %s {\n", c.Name)
	if c.Hook != nil {
		fmt.Fprintf(b, "\t\ttype nat hook %s priority %s; policy accept;\n", c.Hook.Number, priorityText(*c.Hook))
	}
	for _, r := range c.Rules {
		b.WriteString("\t\t" + r.text(f) + "\n")
	}
	b.WriteString("\t}\n")
}

// priorityText uses the names that nft knows for a hook.
func priorityText(h Hook) string {
	switch {
	case h.Number == HookPrerouting && h.Priority == priorityDstNAT:
		return "dstnat"
	case h.Number == HookPostrouting && h.Priority == prioritySrcNAT:
		return "srcnat"
	}
	return fmt.Sprint(h.Priority)
}

func (r Rule) text(f Family) string {
	words := make([]string, len(r))
	for i, s := range r {
		words[i] = statementText(s, f)
	}
	return strings.Join(words, " ")
}

func statementText(s Statement, f Family) string {
	switch s := s.(type) {
	case MatchProtocol:
		return "meta l4proto " + s.Protocol.String()
	case MatchSource:
		return fmt.Sprintf("%s saddr %s%s", f, map[bool]string{true: "!= "}[s.Not], prefixText(s.Prefix))
	case MatchSet:
		return fieldsText(s.Fields, f) + " @" + s.Set.Name()
	case MatchDNAT:
		return "ct status dnat"
	case MatchMarkUnset:
		return fmt.Sprintf("meta mark & 0x%08x == 0x00000000", s.Bits)
	case SetMark:
		return fmt.Sprintf("meta mark set meta mark | 0x%08x", s.Bits)
	case FlipMark:
		return fmt.Sprintf("meta mark set meta mark ^ 0x%08x", s.Bits)
	case Dispatch:
		return fieldsText(s.Fields, f) + " vmap @" + s.Map.Name()
	case DNAT:
		return fmt.Sprintf("dnat %s to %s map @%s", s.Family, fieldsText(s.Fields, f), s.Map.Name())
	case Jump:
		return "jump " + s.Chain
	case Return:
		return "return"
	case Reject:
		return "reject"
	case Reset:
		return "reject with tcp reset"
	case Masquerade:
		return "masquerade fully-random"
	case Unknown:
		return "# unknown: " + s.What
	}
	panic(fmt.Sprintf("rules: no text for statement %T", s))
}

// prefixText leaves out the length of a single address's prefix, as nft does.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func fieldsText(fs Fields, f Family) string {
	var words []string
	for _, fd := range fs.All() {
		words = append(words, fieldText(fd, f))
	}
	return strings.Join(words, " . ")
}

func fieldText(fd Field, f Family) string {
	switch fd.Kind {
	case SourceAddr:
		return f.String() + " saddr"
	case DestAddr:
		return f.String() + " daddr"
	case L4Protocol:
		return "meta l4proto"
	case DestPort:
		return "th dport"
	case Numgen:
		s := fmt.Sprintf("numgen inc mod %d", fd.Mod)
		if fd.Offset != 0 {
			s += fmt.Sprintf(" offset %d", fd.Offset)
		}
		return s
	}
	panic(fmt.Sprintf("rules: no text for field kind %d", fd.Kind))
}
