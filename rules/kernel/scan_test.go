// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/rules"
)

// counted counts what a reading hands over.
type counted struct {
	rules.Parts
	chains, sets, elements int
}

func (c *counted) Part(p rules.Part) {
	if p.Table != nil {
		c.chains += len(p.Table.Chains)
		c.sets += len(p.Table.Sets)
		for _, set := range p.Table.Sets {
			c.elements += len(set)
		}
	}
	c.Parts.Part(p)
}

// mend makes some things as they should be, or everything if they are not enough. It returns what it read.
func (h host) mend(t *testing.T, d *rules.Desired, things []rules.Thing) counted {
	t.Helper()
	c := d.Compare(things)
	read := counted{Parts: c}
	if err := h.Scan(rules.DefaultTable, things, &read); err != nil {
		t.Fatal(err)
	}
	if c.Whole() {
		return h.mend(t, d, nil)
	}
	h.apply(t, c.Tx())
	return read
}

// TestScan finds everything part by part, as Read does.
func TestScan(t *testing.T) {
	h := newHost(t)
	d := desired(append(services(rules.IPv4, 2000, 2), services(rules.IPv6, 10, 1)...)...)
	h.mend(t, d, nil) // from nothing
	wantSame(t, h.read(t, rules.DefaultTable), d.State())
	want := d.State()
	for range 2 {
		read := h.mend(t, d, nil)
		if n := elementsOf(want); read.elements != n {
			t.Errorf("read %d elements, want %d", read.elements, n)
		}
		if n := len(want.Tables[0].Chains) + len(want.Tables[1].Chains); read.chains != n {
			t.Errorf("read %d chains, want %d", read.chains, n)
		}
		h.foreign(t, func(c *nftables.Conn) {
			c.DelTable(&nftables.Table{Name: rules.DefaultTable, Family: nftables.TableFamilyIPv6})
		})
		h.mend(t, d, nil)
	}
}

func elementsOf(s rules.State) int {
	n := 0
	for _, t := range s.Tables {
		for _, set := range t.Sets {
			n += len(set)
		}
	}
	return n
}

// touchedThings takes what the watch knows once it tells of a change.
func touchedThings(t *testing.T, w *Watch, what string) rules.Touched {
	t.Helper()
	wantChanged(t, w, what)
	w.settle(t)
	touched := w.Touched()
	for len(w.changed) > 0 {
		<-w.changed
		more := w.Touched()
		if touched.Things == nil || more.Things == nil && more.By != nil {
			touched.Things = nil
			continue
		}
		touched.Things = append(touched.Things, more.Things...)
	}
	return touched
}

// TestRepairByEvent: whatever others do in the tables, what the events name is enough to mend it, and no more is read.
func TestRepairByEvent(t *testing.T) {
	rows := append(slices.Clone(foreignThings), []struct{ commands, want string }{
		{"add element TABLE cluster-ips { OTHER }", "one element"},
		{"delete element TABLE cluster-ips { ADDR }", "one element"},
		{"add chain TABLE theirs", "one chain"},
		{"add rule TABLE services counter", "one chain"},
		{"flush chain TABLE services", "one chain"},
		{"flush set TABLE cluster-ips", "elements"},
		{"add set TABLE theirs { type mark\n }", "set"},
		{"add chain TABLE theirs\nadd rule TABLE theirs tcp sport { 1, 2 } drop\nadd rule TABLE services jump theirs", "chains"},
		{"delete element TABLE cluster-ips { ADDR }\nflush chain TABLE services\ndelete set TABLE cluster-ips", "set and an element of it"},
		{"delete table TABLE", "table"},
		{"flush ruleset", "everything"},
		{"add table TABLE { flags dormant\n }", "table"},
	}...)
	for _, f := range rules.Families {
		words := strings.NewReplacer("TABLE", f.String()+" nftproxy", "TYPE", map[rules.Family]string{rules.IPv4: "ipv4_addr", rules.IPv6: "ipv6_addr"}[f],
			"ADDR", address(f, 96, 0).String(), "OTHER", address(f, 96, 99).String())
		for _, tt := range rows {
			t.Run(words.Replace(tt.want+" "+tt.commands), func(t *testing.T) {
				needCatchAll(t, tt.commands)
				h := newHost(t)
				d := desired(append(services(rules.IPv4, 20, 3), services(rules.IPv6, 20, 3)...)...)
				h.load(t, d.State())
				w := h.watch(t)
				defer closeWatch(t, w)
				h.nft(t, words.Replace(tt.commands))
				touched := touchedThings(t, w, tt.want)
				if len(touched.By) != 1 || touched.By[0].Name != "nft" || touched.By[0].PID == 0 || touched.By[0].PID == uint32(os.Getpid()) {
					t.Errorf("it was %+v", touched.By)
				}
				read := h.mend(t, d, touched.Things)
				have := h.read(t, rules.DefaultTable)
				wantState(t, "after the repair", have, d.State())
				switch {
				case tt.want == "one element" && (read.elements+read.chains > 1 || read.sets != 1),
					tt.want == "one chain" && (read.chains != 1 || read.sets != 0):
					t.Errorf("it read %d elements of %d sets, and %d chains", read.elements, read.sets, read.chains)
				}
				if touched := w.Touched(); len(touched.Things) > 0 {
					t.Errorf("it tells of our own repair: %+v", touched)
				}
			})
		}
	}
}

// TestChangesBounds: much that is changed is remembered as a set, or as anything, in bounded memory.
func TestChangesBounds(t *testing.T) {
	var c changes
	for i := range 1000 {
		c.add(rules.Thing{Kind: rules.ThingElement, Name: "cluster-ips", Key: rules.Key{ID: uint32(i)}})
	}
	if got := c.touched().Things; len(got) != 1 || got[0] != (rules.Thing{Kind: rules.ThingSet, Name: "cluster-ips"}) {
		t.Errorf("many elements are %+v", got)
	}
	for i := range 1000 {
		c.add(rules.Thing{Kind: rules.ThingChain, Name: strings.Repeat("x", i)})
	}
	if got := c.touched().Things; got != nil || !c.all {
		t.Errorf("many chains are %d things", len(got))
	}
	for i := range 1000 {
		c.add(rules.Thing{})
		c.commit(rules.Process{PID: uint32(i + 1)})
	}
	if len(c.by) > mostProcesses {
		t.Errorf("%d processes", len(c.by))
	}
}

// TestRepairTwice: an element that is named beside its set, or whose set is not there, is repaired once, or not at all.
func TestRepairTwice(t *testing.T) {
	for _, f := range rules.Families {
		t.Run(f.String(), func(t *testing.T) {
			h := newHost(t)
			d := desired(services(f, 20, 3)...)
			h.load(t, d.State())
			set := rules.Thing{Kind: rules.ThingSet, Family: f, Name: "cluster-ips"}
			element := func(set string, k rules.Key) rules.Thing {
				return rules.Thing{Kind: rules.ThingElement, Family: f, Name: set, Key: k}
			}
			key := rules.Key{Addr: address(f, 96, 0)}
			absent := element("sticky", rules.Key{Addr: key.Addr, Protocol: rules.TCP, Port: 80})
			for _, commands := range []string{"", "delete element " + f.String() + " nftproxy cluster-ips { " + key.Addr.String() + " }"} {
				for _, things := range [][]rules.Thing{{set, element("cluster-ips", key)}, {element("cluster-ips", key), set, absent}} {
					if commands != "" {
						h.nft(t, commands)
					}
					h.mend(t, d, things)
					wantState(t, "after the repair", h.read(t, rules.DefaultTable), d.State())
				}
			}
		})
	}
}
