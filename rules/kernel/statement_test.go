// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
)

// statementRow is a statement in all its forms.
type statementRow struct {
	families  []rules.Family
	hook      rules.HookNumber // of the base chain that it is put into
	statement rules.Statement
	text      string // what rules writes, and nft lists, for its rule
}

var (
	v4   = []rules.Family{rules.IPv4}
	v6   = []rules.Family{rules.IPv6}
	both = rules.Families[:]
)

// statementRows has every kind of statement, with the values that our rules have
// and those at the edge. IP stands for ip and ip6 in texts.
func statementRows() []statementRow {
	const pre, post = rules.HookPrerouting, rules.HookPostrouting
	source, dest := rules.Field{Kind: rules.SourceAddr}, rules.Field{Kind: rules.DestAddr}
	l4, port := rules.Field{Kind: rules.L4Protocol}, rules.Field{Kind: rules.DestPort}
	shard := rules.SetID{Kind: rules.Endpoints, Shard: 0x2f}
	stay := rules.SetID{Kind: rules.Stay, Shard: 0x2f}
	sources := rules.SetID{Kind: rules.Sources, Of: "/default/web"}
	affinity := rules.SetID{Kind: rules.Affinity, Of: "/default/web"}
	backends := rules.SetID{Kind: rules.Backends}
	asked, sourcePort := rules.SetID{Kind: rules.Asked}, rules.Field{Kind: rules.SourcePort}
	tried := rules.SetID{Kind: rules.Tried}
	number := numgens(914, 1, 1<<32-1)
	original, originalPort := rules.Field{Kind: rules.OriginalAddr}, rules.Field{Kind: rules.OriginalPort}
	backend := func(k rules.FieldKind) rules.Fields {
		f := rules.Field{Kind: k, Mod: 3}
		if k.Hashes() {
			f.Seed = rules.HashSeed
		}
		return rules.NewFields(dest, l4, port, f)
	}
	hashed := rules.NewFields(rules.Field{Kind: rules.Numgen, Mod: 1, Offset: 5}, rules.Field{Kind: rules.FlowHash, Mod: 3, Offset: 7, Seed: rules.HashSeed})
	prefix := netip.MustParsePrefix
	longest := longestChain()
	return []statementRow{
		{both, pre, rules.MatchProtocol{Protocol: rules.TCP}, "meta l4proto tcp"},
		{both, pre, rules.MatchProtocol{Protocol: rules.SCTP}, "meta l4proto sctp"},
		{v4, pre, rules.MatchSource{Prefix: prefix("10.244.0.0/16")}, "ip saddr 10.244.0.0/16"},
		{v4, pre, rules.MatchSource{Prefix: prefix("10.244.0.0/15"), Not: true}, "ip saddr != 10.244.0.0/15"},
		{v4, pre, rules.MatchSource{Prefix: prefix("10.244.1.1/32"), Not: true}, "ip saddr != 10.244.1.1"},
		{v6, pre, rules.MatchSource{Prefix: prefix("fd00:10:244::/48")}, "ip6 saddr fd00:10:244::/48"},
		{v6, pre, rules.MatchSource{Prefix: prefix("fd00:10::/31"), Not: true}, "ip6 saddr != fd00:10::/31"},
		{v6, pre, rules.MatchSource{Prefix: prefix("fd00::1/128")}, "ip6 saddr fd00::1"},
		{both, pre, rules.MatchSet{Fields: rules.NewFields(l4), Set: rules.SetID{Kind: rules.Protocols}}, "meta l4proto @protocols"},
		{both, pre, rules.MatchSet{Fields: rules.NewFields(dest), Set: rules.SetID{Kind: rules.ClusterIPs}}, "IP daddr @cluster-ips"},
		{both, post, rules.MatchSet{Fields: rules.NewFields(source, dest), Set: rules.SetID{Kind: rules.Hairpin}}, "IP saddr . IP daddr @hairpin"},
		{both, pre, rules.MatchSet{Fields: rules.NewFields(source), Set: sources, Not: true}, "IP saddr != @sources/default/web"},
		{both, pre, rules.MatchSet{Fields: rules.NewFields(l4, port), Set: rules.SetID{Kind: rules.MasqueradeNodePorts}},
			"meta l4proto . th dport @masquerade-nodeports"},
		{both, pre, rules.MatchInterface{Name: "cni0"}, `iifname "cni0"`},
		{both, pre, rules.MatchInterface{Name: "a23456789012345", Not: true}, `iifname != "a23456789012345"`},
		{both, pre, rules.MatchInterface{Name: "veth*"}, `iifname "veth*"`},
		{both, rules.HookOutput, rules.MatchInterface{Name: "veth*", Not: true}, `iifname != "veth*"`},
		{both, pre, rules.MatchLocalSource{}, "fib saddr type local"},
		{both, post, rules.MatchLocalSource{}, "fib saddr type local"},
		{v4, pre, rules.MatchLocalDest{}, "ip daddr != 127.0.0.0/8 fib daddr type local"},
		{v6, rules.HookOutput, rules.MatchLocalDest{}, "ip6 daddr != ::1 fib daddr type local"},
		{both, post, rules.MatchDNAT{}, "ct status dnat"},
		{both, post, rules.MatchMarkUnset{Bits: 0x4000}, "meta mark & 0x00004000 == 0x00000000"},
		{both, post, rules.MatchMarkUnset{Bits: 1 << 31}, "meta mark 0x00000000/1"},
		{both, pre, rules.SetMark{Bits: 0x4000}, "meta mark set meta mark | 0x00004000"},
		{both, pre, rules.SetMark{Bits: 1}, "meta mark set meta mark | 0x00000001"},
		{both, post, rules.FlipMark{Bits: 0x4000}, "meta mark set meta mark ^ 0x00004000"},
		{both, pre, rules.Dispatch{Fields: rules.NewFields(dest, l4, port), Map: rules.SetID{Kind: rules.ServiceIPs}},
			"IP daddr . meta l4proto . th dport vmap @service-ips"},
		{v4, pre, rules.DNAT{Family: rules.IPv4, Fields: rules.NewFields(dest, l4, port), Map: rules.SetID{Kind: rules.Single}},
			"meta l4proto @protocols dnat ip to ip daddr . meta l4proto . th dport map @single"},
		{v6, pre, rules.DNAT{Family: rules.IPv6, Fields: rules.NewFields(dest, l4, port), Map: rules.SetID{Kind: rules.Single}},
			"meta l4proto @protocols dnat ip6 to ip6 daddr . meta l4proto . th dport map @single"},
		{v4, pre, rules.DNAT{Family: rules.IPv4, Fields: numgens(914, 2, 3<<16), Map: shard},
			"meta l4proto tcp dnat ip to numgen inc mod 1 offset 914 . numgen inc mod 2 offset 196608 map @endpoints-2f"},
		{v6, pre, rules.DNAT{Family: rules.IPv6, Fields: numgens(1<<32-1, 1<<16, 0xffff<<16), Map: shard},
			"meta l4proto tcp dnat ip6 to numgen inc mod 1 offset 4294967295 . numgen inc mod 65536 offset 4294901760 map @endpoints-2f"},
		{v4, pre, rules.DNAT{Family: rules.IPv4, Fields: numgens(0, 7, 0), Map: shard},
			"meta l4proto tcp dnat ip to numgen inc mod 1 . numgen inc mod 7 map @endpoints-2f"},
		{v4, pre, rules.DNAT{Family: rules.IPv4, Fields: backend(rules.RandomNumber), Map: backends},
			"meta l4proto @protocols dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @backends"},
		{v6, pre, rules.DNAT{Family: rules.IPv6, Fields: backend(rules.RandomNumber), Map: backends},
			"meta l4proto @protocols dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 3 map @backends"},
		{v4, pre, rules.DNAT{Family: rules.IPv4, Fields: backend(rules.FlowHash), Map: backends},
			"meta l4proto @protocols dnat ip to ip daddr . meta l4proto . th dport . jhash ip saddr . th sport mod 3 seed 0x6e667470 map @backends"},
		{v6, pre, rules.DNAT{Family: rules.IPv6, Fields: backend(rules.FlowHash), Map: backends},
			"meta l4proto @protocols dnat ip6 to ip6 daddr . meta l4proto . th dport . jhash ip6 saddr . th sport mod 3 seed 0x6e667470 map @backends"},
		{v4, pre, rules.DNAT{Family: rules.IPv4, Fields: backend(rules.AddrHash), Map: backends},
			"meta l4proto @protocols dnat ip to ip daddr . meta l4proto . th dport . jhash ip saddr mod 3 seed 0x6e667470 map @backends"},
		{v6, pre, rules.DNAT{Family: rules.IPv6, Fields: backend(rules.AddrHash), Map: backends},
			"meta l4proto @protocols dnat ip6 to ip6 daddr . meta l4proto . th dport . jhash ip6 saddr mod 3 seed 0x6e667470 map @backends"},
		{v6, pre, rules.DNAT{Family: rules.IPv6, Fields: hashed, Map: shard},
			"dnat ip6 to numgen inc mod 1 offset 5 . jhash ip6 saddr . tcp sport mod 3 seed 0x6e667470 offset 7 map @endpoints-2f"},
		{v4, pre, rules.DNAT{Family: rules.IPv4, Fields: rules.NewFields(source), Map: affinity},
			"meta l4proto tcp dnat ip to ip saddr map @affinity/default/web"},
		{both, post, rules.Dispatch{Fields: rules.NewFields(original, l4, originalPort), Map: rules.SetID{Kind: rules.Sticky}},
			"ct original IP daddr . meta l4proto . ct original proto-dst vmap @sticky"},
		{both, rules.HookInput, rules.Dispatch{Fields: rules.NewFields(l4, originalPort), Map: rules.SetID{Kind: rules.StickyNodePorts}},
			"meta l4proto . ct original proto-dst vmap @sticky-nodeports"},
		{both, post, rules.Remember{Set: affinity, Seconds: 10800}, "update @affinity/default/web { IP saddr timeout 3h : IP daddr . th dport }"},
		{both, post, rules.Remember{Set: affinity, Seconds: 90061}, "update @affinity/default/web { IP saddr timeout 1d1h1m1s : IP daddr . th dport }"},
		{v4, pre, rules.DNATRemembered{Family: rules.IPv4, Clients: affinity, ID: 914, Map: stay},
			"meta l4proto tcp ip daddr set ip saddr map @affinity/default/web dnat ip to numgen inc mod 1 offset 914 . " +
				"ip daddr . tcp dport map @stay-2f"},
		{v6, pre, rules.DNATRemembered{Family: rules.IPv6, Clients: affinity, ID: 1<<32 - 1, Map: stay},
			"meta l4proto tcp ip6 daddr set ip6 saddr map @affinity/default/web dnat ip6 to numgen inc mod 1 offset 4294967295 . " +
				"ip6 daddr . tcp dport map @stay-2f"},
		{both, pre, rules.RestoreDest{}, "IP daddr set ct original IP daddr"},
		{both, pre, rules.Forget{Set: affinity}, "delete @affinity/default/web { IP saddr : IP daddr . th dport }"},
		{both, pre, rules.MatchUnassured{}, "ct status ! assured"},
		{both, rules.HookOutput, rules.MatchNew{}, "ct state new"},
		{both, pre, rules.MatchReply{}, "ct direction reply"},
		{both, pre, rules.Once{}, "limit rate 1/day burst 1 packets"},
		{both, pre, rules.MatchSet{Fields: rules.NewFields(source, l4, sourcePort), Set: asked}, "IP saddr . meta l4proto . th sport @asked"},
		{both, pre, rules.Note{Fields: rules.NewFields(source, l4, sourcePort), Set: asked, Seconds: 30}, "add @asked { IP saddr . meta l4proto . th sport timeout 30s }"},
		{both, rules.HookOutput, rules.Note{Fields: rules.NewFields(source, l4, sourcePort), Set: rules.SetID{Kind: rules.Answering}, Seconds: 60, Update: true},
			"update @answering { IP saddr . meta l4proto . th sport timeout 1m }"},
		{both, pre, rules.Note{Fields: rules.NewFields(source, l4, sourcePort), Set: rules.SetID{Kind: rules.Unanswered}, Seconds: 1},
			"add @unanswered { IP saddr . meta l4proto . th sport timeout 1s : IP daddr . th dport }"},
		{both, pre, rules.MatchSet{Fields: number, Set: tried, Not: true}, "numgen inc mod 1 offset 914 . numgen inc mod 1 offset 4294967295 != @tried"},
		{both, pre, rules.Note{Fields: number, Set: tried, Seconds: 10},
			"add @tried { numgen inc mod 1 offset 914 . numgen inc mod 1 offset 4294967295 timeout 10s }"},
		{both, pre, rules.Jump{Chain: "services"}, "jump services"},
		{both, pre, rules.Goto{Chain: "services"}, "goto services"},
		{both, pre, rules.Jump{Chain: longest}, "jump " + longest},
		{both, post, rules.Return{}, "return"},
		{both, pre, rules.Reject{}, "reject"},
		{both, pre, rules.Reset{}, "reject with tcp reset"},
		{v4, pre, rules.RejectProtocol{}, "reject with icmp prot-unreachable"},
		{both, pre, rules.Drop{}, "drop"},
		{both, post, rules.Masquerade{}, "masquerade fully-random"},
	}
}

// numgens is the key of an endpoint: a constant and a counter.
func numgens(id, mod, offset uint32) rules.Fields {
	return rules.NewFields(rules.Field{Kind: rules.Numgen, Mod: 1, Offset: id}, rules.Field{Kind: rules.Numgen, Mod: mod, Offset: offset})
}

// longestChain has the longest names that Kubernetes allows.
func longestChain() string {
	return "remember-external/" + strings.Repeat("n", 63) + "/" + strings.Repeat("s", 63) + "/" + strings.Repeat("p", 15)
}

// rule is a rule with the statement. nft wants protocols before it translates ports
// or resets connections.
func (r statementRow) rule() rules.Rule {
	tcp := rules.MatchProtocol{Protocol: rules.TCP}
	switch s := r.statement.(type) {
	case rules.DNAT:
		if s.Map.Kind == rules.Single || s.Map.Kind == rules.Backends {
			known := rules.MatchSet{Fields: rules.NewFields(rules.Field{Kind: rules.L4Protocol}), Set: rules.SetID{Kind: rules.Protocols}}
			return rules.Rule{known, s}
		}
		return rules.Rule{tcp, s}
	case rules.DNATRemembered:
		return rules.Rule{tcp, s}
	case rules.Reset:
		return rules.Rule{tcp, s}
	}
	return rules.Rule{r.statement}
}

// statementState has each row in a base chain of its own, and all sets.
func statementState(rows []statementRow) rules.State {
	s := rules.State{Name: "statements", Tables: [2]*rules.Table{rules.NewTable(), rules.NewTable()}}
	for _, t := range s.Tables {
		for _, k := range []rules.SetKind{rules.Protocols, rules.Hairpin, rules.Single, rules.ServiceIPs, rules.ClusterIPs,
			rules.MasqueradeNodePorts, rules.Sticky, rules.StickyNodePorts, rules.Backends} {
			t.Sets[rules.SetID{Kind: k}] = nil
		}
		t.Sets[rules.SetID{Kind: rules.Endpoints, Shard: 0x2f}] = nil
		t.Sets[rules.SetID{Kind: rules.Stay, Shard: 0x2f}] = nil
		t.Sets[rules.SetID{Kind: rules.Sources, Of: "/default/web"}] = nil
		affinity := rules.SetID{Kind: rules.Affinity, Of: "/default/web"}
		t.Sets[affinity] = nil
		t.Affinity[affinity] = rules.AffinityMap{Set: affinity, Size: 100}
		for _, k := range []rules.SetKind{rules.Asked, rules.Unanswered, rules.Answering, rules.Tried} {
			id := rules.SetID{Kind: k}
			t.Sets[id], t.Affinity[id] = nil, rules.AffinityMap{Set: id, Size: 200}
		}
		for _, name := range []string{"services", longestChain()} {
			t.Chains[name] = rules.Chain{Name: name}
		}
	}
	for i, r := range rows {
		for _, f := range r.families {
			name := fmt.Sprintf("row-%02d", i)
			s.Tables[f].Chains[name] = rules.Chain{Name: name, Hook: &rules.Hook{Number: r.hook, Priority: int32(i)},
				Rules: []rules.Rule{r.rule()}}
		}
	}
	return s
}

// TestStatements puts each kind of statement into the kernel.
func TestStatements(t *testing.T) {
	rows := statementRows()
	want := statementState(rows)
	h := newHost(t)
	h.load(t, want)

	t.Run("read back", func(t *testing.T) { wantState(t, "read back", h.read(t, want.Name), want) })
	t.Run("text", func(t *testing.T) {
		lines := chainLines(stateText(t, want))
		for i, r := range rows {
			for _, f := range r.families {
				wantLine(t, lines, f, i, r.text)
			}
		}
	})
	t.Run("nft", func(t *testing.T) {
		lines := chainLines(h.nft(t, "", "list", "ruleset"))
		for i, r := range rows {
			for _, f := range r.families {
				wantLine(t, lines, f, i, netnstest.AsListed(r.text))
			}
		}
	})
}

func wantLine(t *testing.T, lines map[string]string, f rules.Family, row int, want string) {
	t.Helper()
	want = strings.ReplaceAll(want, "IP ", f.String()+" ")
	if got := lines[fmt.Sprintf("%s row-%02d", f, row)]; got != want {
		t.Errorf("%s, row %d: %q, want %q", f, row, got, want)
	}
}

// chainLines returns the last line of each chain in a listing, by family and name.
func chainLines(listing string) map[string]string {
	lines := map[string]string{}
	var family, chain, last string
	for line := range strings.Lines(listing) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "table":
			family = words[1]
		case words[0] == "chain":
			chain = words[1]
		case words[0] == "}" && chain != "":
			lines[family+" "+chain] = last
			chain = ""
		default:
			last = strings.Join(words, " ")
		}
	}
	return lines
}

// TestStatementsAreComplete fails when a statement or a kind of field has no row.
func TestStatementsAreComplete(t *testing.T) {
	needSources(t)
	statements, fields := declared(t)
	for _, r := range statementRows() {
		delete(statements, strings.TrimPrefix(fmt.Sprintf("%T", r.statement), "rules."))
		for _, fs := range fieldsOf(r.statement) {
			delete(fields, int(fs.Kind))
		}
	}
	delete(statements, "Unknown") // it is never written
	if len(statements) > 0 {
		t.Errorf("no row for %q", slices.Sorted(maps.Keys(statements)))
	}
	for _, name := range fields {
		t.Errorf("no row with field %s", name)
	}
}

func fieldsOf(s rules.Statement) []rules.Field {
	var fs rules.Fields
	switch s := s.(type) {
	case rules.MatchSet:
		fs = s.Fields
	case rules.Dispatch:
		fs = s.Fields
	case rules.DNAT:
		fs = s.Fields
	}
	return fs.All()
}

// declared returns the statements of package rules, which are the types that nft's JSON has as parts of a rule, and its
// constants of type FieldKind, which count from 1 on.
func declared(t *testing.T) (statements map[string]bool, fields map[int]string) {
	t.Helper()
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	statements, fields = map[string]bool{}, map[int]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if isStatement(d) {
					statements[d.Recv.List[0].Type.(*ast.Ident).Name] = true
				}
			case *ast.GenDecl:
				for i, name := range fieldKinds(d) {
					fields[i+1] = name
				}
			}
		}
	}
	if len(statements) == 0 || len(fields) == 0 {
		t.Fatalf("found %d statements and %d fields", len(statements), len(fields))
	}
	return statements, fields
}

// isStatement says whether a function is the method of a statement that returns parts of a rule.
func isStatement(d *ast.FuncDecl) bool {
	if d.Recv == nil || d.Name.Name != "nftJSON" || d.Type.Results == nil {
		return false
	}
	_, parts := d.Type.Results.List[0].Type.(*ast.ArrayType)
	return parts
}

// fieldKinds returns the names of constants of type FieldKind.
func fieldKinds(d *ast.GenDecl) (names []string) {
	if d.Tok != token.CONST {
		return nil
	}
	if typ, ok := d.Specs[0].(*ast.ValueSpec).Type.(*ast.Ident); ok && typ.Name == "FieldKind" {
		for _, s := range d.Specs {
			names = append(names, s.(*ast.ValueSpec).Names[0].Name)
		}
	}
	return names
}
