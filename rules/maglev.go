// SPDX-License-Identifier: Apache-2.0

package rules

import "encoding/binary"

// The sizes of Maglev's tables: primes, the default, the least and the greatest.
const (
	DefaultMaglevSize = 1021
	MinMaglevSize     = 251
	MaxMaglevSize     = 65521
)

// maglevSizes are those that are taken where the size that is asked for cannot be.
var maglevSizes = [...]int{3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, MaxMaglevSize}

// IsMaglevSize says whether a table can have so many slots.
func IsMaglevSize(n int) bool {
	if n < MinMaglevSize || n > MaxMaglevSize {
		return false
	}
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}

// Of a table with fewer slots for each endpoint than coarseSlots, several in a hundred slots of others move when an endpoint leaves;
// with fineSlots about one does.
const (
	coarseSlots = 100
	fineSlots   = 300
)

// CoarseTable says whether a Maglev table of so many slots is too small for so many endpoints: when one leaves, many connections of
// the others move, too. finer is the size with which about one in a hundred does, or the greatest size.
func CoarseTable(slots, endpoints int) (finer int, coarse bool) {
	if slots >= coarseSlots*endpoints || slots >= MaxMaglevSize {
		return 0, false
	}
	for _, s := range maglevSizes {
		if s >= MinMaglevSize && s > slots && s >= fineSlots*endpoints {
			return s, true
		}
	}
	return MaxMaglevSize, true
}

// tableSize returns how many slots a service port's table has: what is asked for, as long as it is within the limit and each
// endpoint can have one.
func tableSize(sp *ServicePort, endpoints, limit int) int {
	size := int(sp.TableSize)
	if size == 0 {
		size = DefaultMaglevSize
	}
	if size > limit {
		for _, s := range maglevSizes {
			if s <= limit {
				size = s
			}
		}
	}
	for _, s := range maglevSizes {
		if size < endpoints && s >= endpoints {
			size = s
		}
	}
	return size
}

// maglev lays out a table whose slots stay with their endpoints but for few when others come and go (Eisenbud et al., Maglev,
// 2016). It depends on nothing but the endpoints, which are in order, their weights, the size and the seed, and so is the same on all nodes.
// Each endpoint has its own order of all slots, and takes the next one that is free when it is its turn.
func maglev(list []Endpoint, size int, seed uint32) slots {
	quota := make([]uint64, len(list))
	for i := range list {
		quota[i] = uint64(list[i].weight()) * warmth(&list[i])
	}
	apportion(quota, uint64(size), true) //nolint:gosec // sizes are positive
	rounds := uint64(0)
	for _, q := range quota {
		rounds = max(rounds, q)
	}
	const free = 1<<16 - 1 // no index: there are fewer endpoints than that
	out := make(slots, size)
	for i := range out {
		out[i] = free
	}
	orders, taken := preferences(list, size, seed), make([]uint64, len(list))
	for round := range rounds {
		for i := range list {
			if taken[i]*rounds >= quota[i]*(round+1) {
				continue
			}
			taken[i]++
			slot := orders[i].next()
			for out[slot] != free {
				slot = orders[i].next()
			}
			out[slot] = uint16(i)
		}
	}
	return out
}

// preferenceOrder is an endpoint's order of all slots.
type preferenceOrder struct{ at, step, size int }

// next returns the next slot in the order.
func (o *preferenceOrder) next() int {
	at := o.at
	if o.at += o.step; o.at >= o.size {
		o.at -= o.size
	}
	return at
}

// preferences returns each endpoint's order.
func preferences(list []Endpoint, size int, seed uint32) []preferenceOrder {
	out := make([]preferenceOrder, len(list))
	for i := range list {
		a := list[i].Addr.Addr().As16()
		h := scramble(uint64(seed) ^ binary.BigEndian.Uint64(a[:8]))
		h = scramble(h ^ binary.BigEndian.Uint64(a[8:]))
		h = scramble(h ^ uint64(list[i].Addr.Port()))
		out[i] = preferenceOrder{int(h % uint64(size)), int(scramble(h)%uint64(size-1)) + 1, size} //nolint:gosec // sizes are positive, and a remainder is below them
	}
	return out
}
