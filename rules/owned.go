// SPDX-License-Identifier: Apache-2.0

package rules

import "iter"

// Owned is the objects that an owner is to have. Empty objects remove the owner.
type Owned struct {
	Owner   Owner
	Objects Objects
}

// Objects returns what an owner has.
func (d *Desired) Objects(o Owner) Objects { return d.objects[o].objects() }

// Chunks yields all owners with what they have, so many at a time, in no order.
func (d *Desired) Chunks(n int) iter.Seq[[]Owned] {
	return func(yield func([]Owned) bool) {
		var list []Owned
		for owner, has := range d.objects {
			if list = append(list, Owned{owner, has.objects()}); len(list) == n {
				if !yield(list) {
					return
				}
				list = nil
			}
		}
		if len(list) > 0 {
			yield(list)
		}
	}
}

// Owners returns the number of owners that have objects.
func (d *Desired) Owners() int { return len(d.objects) }
