// SPDX-License-Identifier: Apache-2.0

package rules

import "net/netip"

// targets are the endpoints that each number of the kernel's choice leads to.
func (p *policy) targets(yield func(i int, to netip.AddrPort) bool) {
	if p.slots == nil {
		for i := range p.endpoints {
			if !yield(i, p.endpoints[i].Addr) {
				return
			}
		}
	}
	for i, at := range p.slots {
		if !yield(i, p.endpoints[at].Addr) {
			return
		}
	}
}

// choices is how many numbers there are.
func (p *policy) choices() int {
	if p.slots == nil {
		return len(p.endpoints)
	}
	return len(p.slots)
}

// choice is the field that chooses one of n slots.
func (b *objectsBuilder) choice(n, offset uint32) Field {
	row := &schedulers[b.sp.Scheduler]
	f := Field{Kind: row.field, Mod: n, Offset: offset}
	switch {
	case row.layout == tabulate:
		f.Seed = b.config.MaglevSeed
	case f.Kind.Hashes():
		f.Seed = HashSeed
	}
	return f
}
