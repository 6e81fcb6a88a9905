// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// setsInOrder returns the table's sets in the kernel's order, then those that the
// kernel did not list, in the order in which they are made.
func (t *Table) setsInOrder() []SetID {
	return inOrder(t.SetOrder, t.Sets, SetID.compare)
}

// chainsInOrder does so for chains.
func (t *Table) chainsInOrder() []Chain {
	names := inOrder(t.ChainOrder, t.Chains, func(a, b string) int {
		return cmp.Or(cmp.Compare(chainRank(t.Chains[a]), chainRank(t.Chains[b])), cmp.Compare(a, b))
	})
	out := make([]Chain, len(names))
	for i, name := range names {
		out[i] = t.Chains[name]
	}
	return out
}

// inOrder returns the keys of m: those in listed first.
func inOrder[K comparable, V any](listed []K, m map[K]V, compare func(a, b K) int) []K {
	out := make([]K, 0, len(m))
	seen := make(map[K]bool, len(listed))
	for _, k := range listed {
		if _, ok := m[k]; ok && !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	rest := slices.SortedFunc(maps.Keys(m), compare)
	return append(out, slices.DeleteFunc(rest, func(k K) bool { return seen[k] })...)
}

// elementsInOrder returns the elements of a set as nft sorts them: by their value,
// and concatenations as if all of their bytes were one little-endian number, which
// makes the last byte of the last field count most.
func (t *Table) elementsInOrder(id SetID) []Element {
	set := t.Sets[id]
	if m, ok := t.Affinity[id]; ok && m.Clients == nil {
		return nil // the kernel's own, of which nothing is known
	}
	out := sortedElements(set)
	if len(id.Kind.Key()) == 1 {
		return out
	}
	keys := make(map[Key][]byte, len(out))
	for _, e := range out {
		keys[e.Key] = sortKey(id.Kind, e.Key)
	}
	slices.SortFunc(out, func(a, b Element) int { return bytes.Compare(keys[a.Key], keys[b.Key]) })
	return out
}

// sortKey returns bytes that sort as nft sorts keys of concatenations.
func sortKey(k SetKind, key Key) []byte {
	var b []byte
	for _, p := range k.Key() {
		b = keyParts[p].bytes(b, key)
	}
	slices.Reverse(b)
	return b
}
