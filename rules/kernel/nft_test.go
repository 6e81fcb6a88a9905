// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// nftStates are states of all shapes that rules makes. They are small: nft's own
// messages must fit the send buffer of an ordinary user.
func nftStates() map[string]rules.State {
	marked := rules.NewDesired(rules.Config{Table: "other", MasqueradeAll: true, MasqueradeMark: 1}, rules.Node{})
	marked.Update(services(rules.IPv6, 3, 2))
	return map[string]rules.State{
		"no services":  desired().State(),
		"statements":   statementState(slices.DeleteFunc(statementRows(), unparsable)),
		"a few":        desired(append(services(rules.IPv4, 40, 3), services(rules.IPv6, 40, 3)...)...).State(),
		"random":       randomState(false),
		"other config": marked.State(),
		"counted":      countedState(),
	}
}

// randomState is the state for some services of all kinds. With session affinity nft
// 1.0.6 lists it but cannot load it.
func randomState(affinity bool) rules.State {
	w := rulestest.NewWorld(1)
	w.Affinity = affinity
	for range 30 {
		w.Step()
	}
	d := rules.NewDesired(w.Config(), w.Node())
	d.Update(w.All())
	return d.State()
}

// countedState is that state without affinity, its connections counted.
func countedState() rules.State {
	w := rulestest.NewWorld(1)
	w.Affinity, w.Count = false, true
	for range 30 {
		w.Step()
	}
	d := rules.NewDesired(w.Config(), w.Node())
	d.Update(w.All())
	return d.State()
}

// unparsable says whether nft 1.0.6 lists a statement and cannot load it: ct original
// proto-dst in a concatenation is a syntax error, an address that is one of two parts of a map's value
// a wrong type, and maps from IPv6 addresses to addresses and ports are too large for its own count of registers.
func unparsable(r statementRow) bool {
	switch s := r.statement.(type) {
	case rules.Remember, rules.Forget, rules.DNATRemembered:
		return true
	case rules.Note:
		return s.Set.Kind.IsMap()
	case rules.Dispatch:
		return slices.ContainsFunc(s.Fields.All(), func(f rules.Field) bool { return f.Kind == rules.OriginalPort })
	}
	return false
}

// TestNftLists has nft list what it cannot load.
func TestNftLists(t *testing.T) {
	for name, s := range map[string]rules.State{"statements": statementState(statementRows()), "random": randomState(true)} {
		h := newHost(t)
		h.load(t, s)
		listing := h.nft(t, "", "list", "ruleset")
		for id := range s.Tables[rules.IPv6].Sets {
			if !strings.Contains(listing, " "+id.Name()+" {") {
				t.Errorf("%s: nft lists no %s", name, id.Name())
			}
		}
		for chain := range s.Tables[rules.IPv6].Chains {
			if !strings.Contains(listing, "chain "+chain+" {") {
				t.Errorf("%s: nft lists no chain %s", name, chain)
			}
		}
	}
}

// TestNftListsAndLoads has nft list the tables that we wrote and load its own
// listing elsewhere.
func TestNftListsAndLoads(t *testing.T) {
	for name, s := range nftStates() {
		t.Run(name, func(t *testing.T) {
			first, second := newHost(t), newHost(t)
			first.load(t, s)
			listing := first.nft(t, "", "list", "ruleset")
			second.nft(t, listing)
			wantState(t, "loaded by nft from its listing", second.read(t, s.Name), first.read(t, s.Name))
			wantState(t, "loaded by us", first.read(t, s.Name), s)
			if again := second.nft(t, "", "list", "ruleset"); len(again) != len(listing) {
				t.Errorf("nft lists %d bytes, and %d after it has loaded them", len(listing), len(again))
			}
		})
	}
}

// TestNftLoadsText loads what State.WriteText writes. It must come to the same as
// what we write ourselves, for us and for nft.
func TestNftLoadsText(t *testing.T) {
	for name, s := range nftStates() {
		t.Run(name, func(t *testing.T) {
			h, ours := newHost(t), newHost(t)
			h.nft(t, stateText(t, s))
			ours.load(t, s)
			wantState(t, "loaded by nft", h.read(t, s.Name), s)
			if diff := cmp.Diff(ours.nft(t, "", "list", "ruleset"), h.nft(t, "", "list", "ruleset")); diff != "" {
				t.Errorf("nft lists what it loaded from our text otherwise than what we wrote (-ours +text):\n%s", diff)
			}
		})
	}
}

// TestTextIsNftsListing: what State.WriteText writes is what nft lists, to the letter:
// of what is to be, where it is all that the kernel ever held, and of what was read
// from the kernel, whatever came and went before.
func TestTextIsNftsListing(t *testing.T) {
	states := nftStates()
	states["affinity"], states["statements"] = randomState(true), statementState(statementRows())
	many := rules.NewDesired(rules.Config{}, rules.Node{ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"),
		netip.MustParsePrefix("10.98.0.0/15"), netip.MustParsePrefix("10.200.7.7/32"), netip.MustParsePrefix("fd00:96::/112")}})
	states["ranges"] = many.State()
	for name, s := range states {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.load(t, s)
			listing := h.nft(t, "", "list", "ruleset")
			if diff := cmp.Diff(listing, netnstest.AsListed(stateText(t, s))); diff != "" {
				t.Errorf("the text of what was written differs from nft's listing (-nft +text):\n%s", diff)
			}
			if diff := cmp.Diff(listing, netnstest.AsListed(stateText(t, h.listing(t, s.Name)))); diff != "" {
				t.Errorf("the text of what was read differs from nft's listing (-nft +text):\n%s", diff)
			}
		})
	}
}

// TestTextHasClients lists clients that the kernel remembers as nft does, but for the
// milliseconds that pass between two listings.
func TestTextHasClients(t *testing.T) {
	h, s := newHost(t), randomState(true)
	h.load(t, s)
	var set rules.SetID
	for set = range s.Tables[rules.IPv4].Affinity {
		break
	}
	h.nft(t, "add element ip nftproxy "+set.Name()+
		" { 10.2.0.9 timeout 3h : 10.244.1.5 . 80, 10.1.0.9 timeout 90m : 10.244.1.6 . 80, 10.1.0.10 timeout 1d : 10.244.1.7 . 80 }")
	expires := regexp.MustCompile(`expires [0-9dhms]+`)
	listing := expires.ReplaceAllString(h.nft(t, "", "list", "ruleset"), "expires soon")
	text := netnstest.AsListed(expires.ReplaceAllString(stateText(t, h.listing(t, s.Name)), "expires soon"))
	if diff := cmp.Diff(listing, text); diff != "" || !strings.Contains(text, "10.1.0.9 timeout 1h30m expires soon : 10.244.1.6 . 80") {
		t.Errorf("the text differs from nft's listing (-nft +text):\n%s", diff)
	}
	var ours strings.Builder
	if err := h.listing(t, s.Name).WriteJSON(&ours); err != nil {
		t.Fatal(err)
	}
	theirs, _ := h.nftWarns(t, "", "-j", "list", "ruleset")
	seconds := regexp.MustCompile(`"expires": ?[0-9]+`)
	soon := func(listing string) []any { return ruleset(t, seconds.ReplaceAllString(listing, `"expires":1`)) }
	if diff := cmp.Diff(soon(theirs), soon(ours.String())); diff != "" {
		t.Errorf("our JSON differs from nft's (-nft +ours):\n%s", diff)
	}
}

// TestJSONIsNfts: what State.WriteJSON writes is what nft -j lists, but for what nft
// 1.0.6 does not know: it lists no flag dynamic and no statement that fills a map, and
// large offsets as negative numbers. (It cannot load its own listing: it knows no maps
// to concatenations in JSON.)
func TestJSONIsNfts(t *testing.T) {
	states := nftStates()
	states["affinity"], states["statements"] = randomState(true), statementState(statementRows())
	for name, s := range states {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.load(t, s)
			var ours strings.Builder
			if err := h.listing(t, s.Name).WriteJSON(&ours); err != nil {
				t.Fatal(err)
			}
			listing, _ := h.nftWarns(t, "", "-j", "list", "ruleset")
			if diff := cmp.Diff(ruleset(t, listing), ruleset(t, ours.String())); diff != "" {
				t.Errorf("our JSON differs from nft's (-nft +ours):\n%s", diff)
			}
		})
	}
}

// ruleset returns the objects of a JSON listing, without handles and without what nft
// 1.0.6 cannot list.
func ruleset(t *testing.T, listing string) []any {
	t.Helper()
	var document struct{ Nftables []map[string]map[string]any }
	if err := json.Unmarshal([]byte(listing), &document); err != nil {
		t.Fatal(err)
	}
	var out []any
	for _, o := range document.Nftables[1:] {
		for kind, fields := range o {
			delete(fields, "handle")
			if flags, ok := fields["flags"].([]any); ok {
				fields["flags"] = slices.DeleteFunc(flags, func(f any) bool { return f == "dynamic" })
			}
			if exprs, ok := fields["expr"].([]any); ok {
				for i, e := range exprs {
					if m, ok := e.(map[string]any); ok && m["map"] != nil {
						e = m["map"].(map[string]any)["op"]
					} else if s, ok := e.(string); ok {
						e, _, _ = strings.Cut(s, " ")
					}
					exprs[i] = positive(e)
				}
			}
			out = append(out, kind, fields)
		}
	}
	return netnstest.AsListedJSON(out).([]any)
}

// positive makes negative offsets what they stand for.
func positive(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = positive(v[k])
		}
	case []any:
		for i := range v {
			v[i] = positive(v[i])
		}
	case float64:
		if v < 0 {
			return v + 1<<32
		}
	}
	return v
}

// TestTextFollowsTheKernel lists a table after many changes: sets and chains are then
// in the order in which they came.
func TestTextFollowsTheKernel(t *testing.T) {
	h := newHost(t)
	w := rulestest.NewWorld(3)
	d := rules.NewDesired(w.Config(), w.Node())
	h.load(t, d.State())
	for range 60 {
		h.apply(t, d.Update(w.Step()))
	}
	if diff := cmp.Diff(h.nft(t, "", "list", "ruleset"), netnstest.AsListed(stateText(t, h.listing(t, rules.DefaultTable)))); diff != "" {
		t.Errorf("the text of what was read differs from nft's listing (-nft +text):\n%s", diff)
	}
}

// TestNewerNftLoadsText loads the rules of session affinity, which nft 1.0.6 lists and
// cannot load, with the newer nft that NFTPROXY_NEWER_NFT names (1.1.3 does).
func TestNewerNftLoadsText(t *testing.T) {
	nft := os.Getenv("NFTPROXY_NEWER_NFT")
	if nft == "" {
		t.Skip("NFTPROXY_NEWER_NFT names no nft newer than 1.0.6")
	}
	h, s := newHost(t), randomState(true)
	run := func(stdin string, args ...string) string {
		cmd := exec.Command(nft, args...)
		cmd.Stdin = strings.NewReader(stdin)
		var out []byte
		if err := h.ns.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	run(stateText(t, s), "-f", "-")
	// It has names for more priorities.
	names := strings.NewReplacer("output priority -100", "output priority dstnat", "input priority 100", "input priority srcnat")
	if diff := cmp.Diff(netnstest.AsListed(names.Replace(stateText(t, s))), run("", "list", "ruleset")); diff != "" {
		t.Errorf("it lists what it has loaded otherwise (-ours +nft):\n%s", diff)
	}
}

// TestNftLoadsDormantText: the text tells that a table is switched off.
func TestNftLoadsDormantText(t *testing.T) {
	s := desired(services(rules.IPv4, 2, 2)...).State()
	s.Tables[rules.IPv4].Dormant = true
	h := newHost(t)
	h.nft(t, stateText(t, s))
	wantState(t, "loaded by nft", h.read(t, s.Name), s)
	if diff := cmp.Diff(h.nft(t, "", "list", "ruleset"), netnstest.AsListed(stateText(t, h.listing(t, s.Name)))); diff != "" {
		t.Errorf("the text differs from nft's listing (-nft +text):\n%s", diff)
	}
}

// TestNftAcceptsGoldenFiles checks the files that the tests of rules compare with.
func TestNftAcceptsGoldenFiles(t *testing.T) {
	needSources(t)
	files, err := filepath.Glob("../testdata/*.nft")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no golden files (%v)", err)
	}
	h := newHost(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h.nft(t, loadable(string(text)), "-c")
		})
	}
}

// loadable leaves out the rules that nft 1.0.6 prints but cannot load: those with
// ct original proto-dst in a concatenation, and with an address that is one of two parts of a map's value.
func loadable(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "ct original proto-dst") && !strings.Contains(line, "saddr map @affinity") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestNftTypeof compares the user data that tell nft how to list a map of endpoints
// with those that nft writes itself.
func TestNftTypeof(t *testing.T) {
	for _, f := range rules.Families {
		for set, key := range map[rules.SetID]string{
			{Kind: rules.Endpoints}: "numgen inc mod 1 . numgen inc mod 2",
			{Kind: rules.Stay}:      "numgen inc mod 1 . " + f.String() + " daddr . th dport",
			{Kind: rules.Backends}:  f.String() + " daddr . meta l4proto . th dport . numgen inc mod 65536",
		} {
			h := newHost(t)
			h.nft(t, fmt.Sprintf("table %s nftproxy { map %s { typeof %s : %s daddr . th dport; }; }", f, set.Name(), key, f))
			theirs := h.userdata(t, f, set.Name())
			h.load(t, desired().State())
			h.apply(t, transaction(rules.Op{Kind: rules.AddSet, Family: f, Set: set}))
			ours := h.userdata(t, f, set.Name())
			if len(ours) == 0 || !bytes.Equal(ours, theirs) {
				t.Errorf("%s %s: our user data\n%x, nft's\n%x", f, set.Name(), ours, theirs)
			}
		}
	}
}

// userdata returns what nft keeps beside a set.
func (h host) userdata(t *testing.T, f rules.Family, set string) []byte {
	t.Helper()
	var data []byte
	err := h.ask(wire.GetSet(f, rules.DefaultTable, set), func(v nfnetlink.Data) { data = wire.ParseSet(v).Userdata() })
	if err != nil {
		t.Fatal(err)
	}
	return data
}
