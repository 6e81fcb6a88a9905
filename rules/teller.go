// SPDX-License-Identifier: Apache-2.0

package rules

import "maps"

// kept keeps of the parts of a Comparison what is needed to say in words how they differ.
type kept struct{ have, want State }

// Found is how a kernel differs from what it should hold.
type Found struct {
	// List has some of the differences, and Counts how many there are of each kind.
	List   []Difference
	Counts map[DifferenceKind]int
}

// Frozen returns a copy that shares the owners' objects, which nobody changes. It is for comparisons only.
func (d *Desired) Frozen() *Desired {
	out := *d
	out.objects, out.refs = maps.Clone(d.objects), map[ref]int32{}
	for _, f := range Families {
		for _, kind := range []SetKind{Sticky, StickyNodePorts} { // what usage asks for
			r := ref{family: f, set: SetID{Kind: kind}}
			out.refs[r] = d.refs[r]
		}
	}
	return &out
}

// Tell returns a comparison, as Compare does, that can say in words what it finds.
func (d *Desired) Tell(things []Thing) *Comparison {
	return &Comparison{d: d, only: choose(things), words: &kept{}}
}

// Differences says what Tx would change, in words, after all parts: so many at most. Whether connections are counted, and
// who may change the tables, is no difference. It is for comparisons that Tell began.
func (c *Comparison) Differences(most int) Found {
	tx := c.Tx()
	d := newDifferences(c.words.have, c.words.want)
	d.most = most
	d.all(&tx)
	return Found{d.out, d.counts}
}

// anew returns one that keeps nothing.
func (w *kept) anew(table string) *kept {
	if w == nil {
		return nil
	}
	out := &kept{State{Name: table}, State{Name: table}}
	for _, f := range Families {
		out.have.Tables[f], out.want.Tables[f] = NewTable(), NewTable()
	}
	return out
}

// oddities keeps what is odd about a table.
func (w *kept) oddities(f Family, list []Oddity) {
	if w != nil {
		w.have.Tables[f].Odd = append(w.have.Tables[f].Odd, list...)
	}
}

// keep keeps a part that differs, and what it should be.
func (w *kept) keep(f Family, have, want *Table) {
	if w == nil {
		return
	}
	for _, t := range []struct{ to, from *Table }{{w.have.Tables[f], have}, {w.want.Tables[f], want}} {
		maps.Copy(t.to.Chains, t.from.Chains)
		for id, set := range t.from.Sets {
			if t.to.Sets[id] == nil {
				t.to.Sets[id] = map[Key]Value{}
			}
			maps.Copy(t.to.Sets[id], set)
		}
	}
}

// absent notes that there is no such table.
func (w *kept) absent(f Family) {
	if w != nil {
		w.have.Tables[f] = nil
	}
}
