// SPDX-License-Identifier: Apache-2.0

package rules

import "slices"

// spread lays out as many slots as weights add up to, smoothly: an endpoint has its share of them, and of any run of them
// its share but for less than one slot more or less, and none has two in a row where that can be avoided. The k-th
// turn of an endpoint of the share s is to come after k/s slots and before (k+1)/s have passed; the one whose time is over
// first comes first, of several the one whose place is first, which does all of it (earliest deadline first;
// Baruah et al., Proportionate progress, 1996).
func spread(weights []uint64) slots {
	total := uint64(0)
	for _, w := range weights {
		total += w
	}
	out := make(slots, 0, total)
	const none = -1
	come, next := make([]int32, total+1), make([]int32, len(weights)) // endpoints by the slot from which on it is their turn, as lists
	for t := range come {
		come[t] = none
	}
	begin := func(t uint64, i int32) {
		next[i] = come[t]
		come[t] = i
	}
	for i := range weights {
		if weights[i] > 0 {
			begin(0, int32(i))
		}
	}
	taken := make([]uint64, len(weights))
	var waiting deadlines
	for t := range total {
		for i := come[t]; i != none; i = next[i] {
			waiting.push(((taken[i]+1)*total+weights[i]-1)/weights[i]<<16 | uint64(i)) //nolint:gosec // indices are positive
		}
		i := waiting.pop() & (1<<16 - 1)
		out = append(out, uint16(i))
		if taken[i]++; taken[i] < weights[i] {
			begin(max((taken[i]*total+weights[i]-1)/weights[i], t+1), int32(i))
		}
	}
	out.separate(len(weights))
	return out
}

// deadlines is a heap of times, each with the endpoint in its last 16 bits.
type deadlines []uint64

func (h *deadlines) push(d uint64) {
	*h = append(*h, d)
	l := *h
	for i := len(l) - 1; i > 0 && l[i] < l[(i-1)/2]; i = (i - 1) / 2 {
		l[i], l[(i-1)/2] = l[(i-1)/2], l[i]
	}
}

func (h *deadlines) pop() uint64 {
	l := *h
	out, last := l[0], len(l)-1
	l[0] = l[last]
	l = l[:last]
	*h = l
	for i := 0; ; {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < last && l[child] < l[least] {
				least = child
			}
		}
		if least == i {
			return out
		}
		l[i], l[least] = l[least], l[i]
		i = least
	}
}

// separate takes apart slots of one endpoint that follow each other, the first following the last: one of them moves to the
// next place between two that are others'. Where there is none, it cannot be avoided.
func (s slots) separate(endpoints int) {
	stuck := make([]bool, endpoints)
	n := len(s)
	for j := 0; j < n; {
		a, after := s[j], (j+1)%n
		if s[after] != a || stuck[a] {
			j++
			continue
		}
		stuck[a] = !s.move(after)
	}
}

// move moves the slot at a place to the nearest one between two of others; false: there is none.
func (s slots) move(from int) bool {
	n := len(s)
	at := func(i int) int { return ((i % n) + n) % n }
	a := s[from]
	for d := 1; d < n; d++ {
		for _, step := range [...]int{1, -1} {
			near, far := at(from+step*d), at(from+step*(d+1))
			if s[near] == a || s[far] == a {
				continue
			}
			for i := range d {
				s[at(from+step*i)] = s[at(from+step*(i+1))]
			}
			s[near] = a
			return true
		}
	}
	return false
}

// counts returns how many slots lead to each of the endpoints.
func (s slots) counts(endpoints int) []int {
	if s == nil {
		return slices.Repeat([]int{1}, endpoints)
	}
	out := make([]int, endpoints)
	for _, i := range s {
		out[i]++
	}
	return out
}
