// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"iter"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// loadStep is how many owners are built before the kernel gets to work on them.
const loadStep = 1000

// load programs owners into a kernel without our tables, and returns
// the transaction that this took, without elements. After an error desired
// has all owners, and the kernel some of their objects.
func (p *programmer) load(owners []rules.Owner, build func([]rules.Owner) []rules.Owned) (written rules.Tx, err error) {
	return fill(p.apply, p.desired, len(owners), func(yield func([]rules.Owned) bool) {
		for owners := range slices.Chunk(owners, loadStep) {
			if !yield(build(owners)) {
				return
			}
		}
	})
}

// fill makes a desired state without owners, and a kernel without our tables, hold some owners. It comes to what repair
// does, but the kernel works while the next owners are built. Chains come first, for all owners: a rule that
// is added costs as much as the map that it reads has elements.
func fill(apply func(rules.Tx) error, d *rules.Desired, owners int, chunks iter.Seq[[]rules.Owned]) (written rules.Tx, err error) {
	steps := make(chan rules.Tx, 2*(owners/loadStep+2)) // all fit: building waits for no commit
	done := make(chan error)
	go func() { done <- applyAll(apply, steps, &written) }()
	steps <- rules.Diff(rules.State{}, d.State())
	var later []rules.Tx
	for owned := range chunks {
		tx := d.Update(owned)
		chains, rest := tx.Split()
		steps <- chains
		later = append(later, rest)
	}
	for _, tx := range later {
		steps <- tx
	}
	close(steps)
	err = <-done
	return written, err
}

// applyAll carries transactions out, up to the first that fails, and notes their
// operations.
func applyAll(apply func(rules.Tx) error, steps <-chan rules.Tx, written *rules.Tx) (err error) {
	for tx := range steps {
		if err == nil {
			err = apply(tx)
			for _, op := range tx.Ops() {
				op.Elements, op.Chain.Rules = nil, nil // they would hold memory
				written.Add(op)
			}
		}
	}
	return err
}
