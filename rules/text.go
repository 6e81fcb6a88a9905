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
		writeSet(b, f, id, t)
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

func writeSet(b *strings.Builder, f Family, id SetID, t *Table) {
	word, lines := setType(f, id.Kind)
	if m, ok := t.Affinity[id]; ok {
		lines = append(lines, fmt.Sprintf("size %d", m.Size), "flags dynamic,timeout")
	}
	fmt.Fprintf(b, "\t%s %s {\n\t\t%s\n", word, id.Name(), strings.Join(lines, "\n\t\t"))
	elements := t.Sets[id]
	if id.Kind == Affinity {
		elements = nil // the kernel's own
	}
	for i, k := range slices.SortedFunc(maps.Keys(elements), Key.compare) {
		lead := ",\n\t\t\t     "
		if i == 0 {
			lead = "\t\telements = { "
		}
		b.WriteString(lead + elementText(id.Kind, Element{k, elements[k]}))
	}
	if len(elements) > 0 {
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n\n")
}

// setType returns the word that starts a set's declaration, and its types and flags.
func setType(f Family, k SetKind) (word string, lines []string) {
	addr := "ipv4_addr"
	if f == IPv6 {
		addr = "ipv6_addr"
	}
	nodePort := "inet_proto . inet_service"
	frontend := addr + " . " + nodePort
	daddr := f.String() + " daddr"
	switch k {
	case Protocols:
		return "set", []string{"type inet_proto"}
	case Affinity:
		return "map", []string{"type " + addr + " : " + addr + " . inet_service"}
	case Endpoints:
		return "map", []string{"typeof numgen inc mod 1 . numgen inc mod 2 : " + daddr + " . th dport"}
	case Backends:
		return "map", []string{"typeof " + daddr + " . meta l4proto . th dport . numgen inc mod 65536 : " + daddr + " . th dport"}
	case Hairpin:
		return "set", []string{"type " + addr + " . " + addr}
	case Sources, ServiceCIDRs:
		return "set", []string{"type " + addr, "flags interval"}
	case MasqueradeIPs:
		return "set", []string{"type " + frontend}
	case MasqueradeNodePorts:
		return "set", []string{"type " + nodePort}
	case Single:
		return "map", []string{"type " + frontend + " : " + addr + " . inet_service"}
	case SingleNodePorts:
		return "map", []string{"type " + nodePort + " : " + addr + " . inet_service"}
	case ServiceIPs, Sticky:
		return "map", []string{"type " + frontend + " : verdict"}
	case NodePorts, StickyNodePorts:
		return "map", []string{"type " + nodePort + " : verdict"}
	default:
		return "set", []string{"type " + addr}
	}
}

// elementText writes an element of a set of some kind.
func elementText(k SetKind, e Element) string {
	key := keyText(k, e)
	switch {
	case e.Goto != "":
		return key + " : " + k.Verdict() + " " + e.Goto
	case e.To.IsValid() && !k.Interval():
		return fmt.Sprintf("%s : %s . %d", key, e.To.Addr(), e.To.Port())
	}
	return key
}

func keyText(k SetKind, e Element) string {
	switch k {
	case Protocols:
		return e.Protocol.String()
	case Endpoints:
		return fmt.Sprintf("%d . %d", e.ID, e.Index)
	case Backends:
		return fmt.Sprintf("%s . %s . %d . %d", e.Addr, e.Protocol, e.Port, e.Index)
	case Hairpin:
		return fmt.Sprintf("%s . %s", e.Addr, e.Addr)
	case Sources, ServiceCIDRs:
		return rangeText(e)
	case Sticky, MasqueradeIPs, Single, ServiceIPs:
		return fmt.Sprintf("%s . %s . %d", e.Addr, e.Protocol, e.Port)
	case StickyNodePorts, MasqueradeNodePorts, SingleNodePorts, NodePorts:
		return fmt.Sprintf("%s . %d", e.Protocol, e.Port)
	}
	return e.Addr.String()
}

// rangeText writes a range of addresses as a prefix where it is one, as nft does.
func rangeText(e Element) string {
	first, last := e.Addr, e.To.Addr()
	if first == last {
		return first.String()
	}
	for bits := range first.BitLen() {
		if p := netip.PrefixFrom(first, bits); p.Masked() == p && lastOf(p) == last {
			return p.String()
		}
	}
	return first.String() + "-" + last.String()
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
	not := map[bool]string{true: "!= "}
	switch s := s.(type) {
	case MatchProtocol:
		return "meta l4proto " + s.Protocol.String()
	case MatchSource:
		return fmt.Sprintf("%s saddr %s%s", f, not[s.Not], prefixText(s.Prefix))
	case MatchInterface:
		return fmt.Sprintf("iifname %s%q", not[s.Not], s.Name)
	case MatchLocalSource:
		return "fib saddr type local"
	case MatchLocalDest:
		return fmt.Sprintf("%s daddr != %s fib daddr type local", f, prefixText(loopback[f]))
	case MatchSet:
		return fmt.Sprintf("%s %s@%s", fieldsText(s.Fields, f), not[s.Not], s.Set.Name())
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
	case Remember:
		return fmt.Sprintf("update @%s { %s saddr timeout %s : %s daddr . th dport }", s.Set.Name(), f, secondsText(s.Seconds), f)
	case Jump:
		return "jump " + s.Chain
	case Goto:
		return "goto " + s.Chain
	case Return:
		return "return"
	case Reject:
		return "reject"
	case Reset:
		return "reject with tcp reset"
	case Drop:
		return "drop"
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
		return fmt.Sprintf("numgen inc mod %d", fd.Mod) + offsetText(fd)
	case RandomNumber:
		return fmt.Sprintf("numgen random mod %d", fd.Mod) + offsetText(fd)
	case ClientHash:
		return fmt.Sprintf("jhash %s saddr . th sport mod %d seed 0x%x", f, fd.Mod, uint32(HashSeed)) + offsetText(fd)
	case OriginalAddr:
		return "ct original " + f.String() + " daddr"
	case OriginalPort:
		return "ct original proto-dst"
	}
	panic(fmt.Sprintf("rules: no text for field kind %d", fd.Kind))
}

func offsetText(fd Field) string {
	if fd.Offset == 0 {
		return ""
	}
	return fmt.Sprintf(" offset %d", fd.Offset)
}

// secondsText writes a time as nft does: 1d2h3m4s.
func secondsText(s uint32) string {
	var b strings.Builder
	for _, u := range []struct {
		name    byte
		seconds uint32
	}{{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}} {
		if n := s / u.seconds; n > 0 {
			fmt.Fprintf(&b, "%d%c", n, u.name)
		}
		s %= u.seconds
	}
	return b.String()
}
