// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// prune deletes those clients from a map that the kernel fills whose endpoint is
// not to be kept. An element that goes by itself meanwhile is fine.
func (k *Kernel) prune(op *rules.Op) error {
	const tries = 5
	var err error
	for range tries {
		gone := rules.Op{Kind: rules.DeleteElements, Family: op.Family, Set: op.Set}
		seen := map[rules.Key]bool{}
		err = k.readElements(op.Family, k.batch.table, op.Set, func(e element) bool {
			again := seen[e.Key]
			seen[e.Key] = true
			if !again && !op.Keep.Has(e.To) {
				gone.Elements = append(gone.Elements, e.Element)
			}
			return again
		})
		if err == nil && len(gone.Elements) == 0 {
			return nil
		}
		if err == nil {
			err = k.deleteNow(&gone)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errChanged) {
			break
		}
	}
	return &pruneError{fmt.Errorf("%s: %w", op.Object(k.batch.table), err)}
}

// pruneError is about what comes after a transaction that was committed.
type pruneError struct{ err error }

func (e *pruneError) Error() string { return e.err.Error() }

func (e *pruneError) Unwrap() error { return e.err }

// Committed says that all but the deletion of clients is done.
func (e *pruneError) Committed() bool { return true }

// pruneStep is how many clients are deleted in one transaction.
const pruneStep = 1000

// deleteNow deletes elements in transactions of their own. One that goes by itself
// meanwhile makes the kernel refuse its whole transaction, whose elements are then
// deleted one by one.
func (k *Kernel) deleteNow(op *rules.Op) error {
	for step := range slices.Chunk(op.Elements, pruneStep) {
		err := k.deleteStep(op, step)
		if !errors.Is(err, unix.ENOENT) {
			if err != nil {
				return err
			}
			continue
		}
		for i := range step {
			if err := k.deleteStep(op, step[i:i+1]); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
	return nil
}

func (k *Kernel) deleteStep(op *rules.Op, elements []rules.Element) error {
	step := *op
	step.Elements = elements
	k.batch.reset()
	if err := k.batch.elementUnits(&step, func() error { return nil }); err != nil {
		return err
	}
	return k.flush()
}
