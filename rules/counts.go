// SPDX-License-Identifier: Apache-2.0

package rules

// Counts is how many objects of each kind a table holds. Clients that packets put into
// maps of session affinity are not among its elements.
type Counts struct{ Chains, Rules, Sets, Maps, Elements int }

// Counts returns what the table of a family should hold. It costs nothing.
func (d *Desired) Counts(f Family) Counts {
	a, b := d.counts[f], d.baseCounts[f]
	return Counts{a.Chains + b.Chains, a.Rules + b.Rules, a.Sets + b.Sets, a.Maps + b.Maps, a.Elements + b.Elements}
}

// Counts returns what the table holds.
func (t *Table) Counts() Counts {
	var c Counts
	for _, chain := range t.Chains {
		c.chain(chain, +1)
	}
	for id, elements := range t.Sets {
		c.set(id, +1)
		if !id.Kind.Dynamic() {
			c.Elements += len(elements)
		}
	}
	return c
}

// countBase counts what is there without any service.
func (d *Desired) countBase() {
	for f, t := range d.baseState().Tables {
		d.baseCounts[f] = t.Counts()
	}
}

// own counts n times what belongs to one owner alone.
func (c *Counts) own(o Objects, n int) {
	for _, chain := range o.Chains {
		c.chain(chain, n)
	}
	for _, m := range o.Affinity {
		c.set(m.Set, n)
	}
	for _, se := range o.Sets {
		if se.Set.Kind.row().owners == exclusive {
			c.Elements += n * len(se.Elements)
		}
	}
}

func (c *Counts) chain(chain Chain, n int) {
	c.Chains += n
	c.Rules += n * len(chain.Rules)
}

func (c *Counts) set(id SetID, n int) {
	if id.Kind.IsMap() {
		c.Maps += n
		return
	}
	c.Sets += n
}
