// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
)

// DifferenceKind says in what a state is not another.
type DifferenceKind string

// The kinds of differences.
const (
	Missing   DifferenceKind = "missing"
	Extra     DifferenceKind = "extra"
	Different DifferenceKind = "different"
)

// Difference is one thing in which a state is not as it should be. Its texts are printable.
type Difference struct {
	Kind   DifferenceKind `json:"kind"`
	Family string         `json:"family"`
	Object string         `json:"object"`
	// Have and Want are lines that only one of the states has, of something that
	// is different.
	Have []string `json:"have,omitempty"`
	Want []string `json:"want,omitempty"`
}

// Differences says what Diff would change, in words. Whether connections are counted is
// no difference: traffic goes the same way.
func Differences(have, want State) []Difference {
	for f, t := range want.Tables {
		if h := have.Tables[f]; t != nil && h != nil && t.Counted != h.Counted {
			counted := *t
			counted.Counted = h.Counted
			want.Tables[f] = &counted
		}
	}
	tx := Diff(have, want)
	d := newDifferences(have, want)
	d.all(&tx)
	return d.out
}

// all says what a transaction would change.
func (d *differences) all(tx *Tx) {
	for _, op := range tx.Ops() {
		if op.Kind == DeleteChain {
			d.gone[op.Family][op.Chain.Name] = true
		}
	}
	for _, op := range tx.Ops() {
		if !d.reset[op.Family] {
			d.op(op)
		}
	}
}

// setName names an operation's set for texts: one that is not ours may have any name.
func setName(op Op) string { return printable.Word(op.SetName()) }

type differences struct {
	have, want State
	reset      map[Family]bool            // families whose whole table is missing or different
	gone       map[Family]map[string]bool // chains that should not be
	out        []Difference
	most       int // in out; 0: all
	counts     map[DifferenceKind]int
}

func newDifferences(have, want State) *differences {
	return &differences{have: have, want: want, reset: map[Family]bool{}, gone: map[Family]map[string]bool{IPv4: {}, IPv6: {}}, counts: map[DifferenceKind]int{}}
}

func (d *differences) add(kind DifferenceKind, f Family, format string, args ...any) *Difference {
	if d.counts[kind]++; d.most > 0 && len(d.out) == d.most {
		return &Difference{}
	}
	d.out = append(d.out, Difference{Kind: kind, Family: f.String(), Object: fmt.Sprintf(format, args...)})
	return &d.out[len(d.out)-1]
}

func (d *differences) op(op Op) {
	f := op.Family
	switch op.Kind {
	case ResetTable:
		d.reset[f] = true
		c := d.add(Different, f, "table %s: a set or a hook is of another kind, so that all of it must be replaced", d.want.Name)
		for _, o := range d.have.Tables[f].Odd {
			c.Object = fmt.Sprintf("table %s: it has what cannot be taken away alone, so that all of it must be replaced", d.want.Name)
			c.Have = append(c.Have, o.String())
		}
	case AddTable:
		if d.have.Tables[f] != nil {
			d.add(Different, f, "table %s: it is switched off (flag dormant)", d.want.Name)
			return
		}
		d.reset[f] = true
		d.add(Missing, f, "table %s", d.want.Name)
	case AddSet:
		d.add(Missing, f, "%s %s", op.Set.Kind.word(), setName(op))
	case DeleteSet:
		d.add(Extra, f, "set %s", setName(op))
	case DeleteObject:
		d.add(Extra, f, "%s", op.Odd)
	case AddChain:
		d.add(Missing, f, "chain %s", printable.Word(op.Chain.Name))
	case DeleteChain:
		d.add(Extra, f, "chain %s", printable.Word(op.Chain.Name))
	case ReplaceChain:
		if !d.gone[f][op.Chain.Name] {
			c := d.add(Different, f, "chain %s", printable.Word(op.Chain.Name))
			c.Have, c.Want = onlyIn(d.have.Tables[f].Chains[op.Chain.Name].lines(f), op.Chain.lines(f))
		}
	case FillSet:
		c := d.add(Different, f, "set %s", setName(op))
		c.Have, c.Want = onlyIn(d.elements(d.have, op), d.elements(d.want, op))
	default:
		d.elementsOp(op)
	}
}

// elementsOp is for operations on single elements.
func (d *differences) elementsOp(op Op) {
	for _, e := range op.Elements {
		text := elementText(op.Set.Kind, e, "")
		switch op.Kind {
		case AddElements:
			d.add(Missing, op.Family, "element of %s: %s", setName(op), text)
		case DeleteElements:
			d.add(Extra, op.Family, "element of %s: %s", setName(op), text)
		default:
			old := d.have.Tables[op.Family].Sets[op.Set][e.Key]
			c := d.add(Different, op.Family, "element of %s", setName(op))
			c.Have, c.Want = []string{elementText(op.Set.Kind, Element{e.Key, old}, "")}, []string{text}
		}
	}
}

// elements returns the elements of an operation's set in a state.
func (d *differences) elements(s State, op Op) []string {
	var out []string
	for _, e := range sortedElements(s.Tables[op.Family].Sets[op.Set]) {
		out = append(out, elementText(op.Set.Kind, e, ""))
	}
	return out
}

// lines returns the chain's hook and rules as text.
func (c Chain) lines(f Family) []string {
	var b strings.Builder
	writeChain(&b, c, f)
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines[1 : len(lines)-1]
}

// onlyIn returns the lines that only one of two lists has; where they are only in
// another order, both lists.
func onlyIn(have, want []string) (onlyHave, onlyWant []string) {
	without := func(list, other []string) []string {
		has := make(map[string]bool, len(other))
		for _, l := range other {
			has[l] = true
		}
		return slices.DeleteFunc(slices.Clone(list), func(l string) bool { return has[l] })
	}
	onlyHave, onlyWant = without(have, want), without(want, have)
	if len(onlyHave)+len(onlyWant) == 0 {
		return have, want
	}
	return onlyHave, onlyWant
}
