// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// prune deletes those clients from a map that the kernel fills whose endpoint is
// not to be kept. An element that goes by itself meanwhile is fine, and so is the whole map.
func (k *Kernel) prune(table string, op *rules.Op) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.batch.table, k.batch.sock = table, k.sock
	defer k.batch.forget()
	return again(func() error {
		gone, err := k.clientsOf(table, op)
		if err == nil && len(gone.Elements) > 0 {
			err = k.deleteNow(&gone)
		}
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	})
}

// clientsOf lists what is to be deleted.
func (k *Kernel) clientsOf(table string, op *rules.Op) (rules.Op, error) {
	gone := rules.Op{Kind: rules.DeleteElements, Family: op.Family, Set: op.Set}
	seen := map[rules.Key]bool{}
	err := k.readElements(op.Family, table, op.Set, func(e element) bool {
		again := seen[e.Key]
		seen[e.Key] = true
		if !again && !op.Keep.Has(e.To) {
			gone.Elements = append(gone.Elements, e.Element)
		}
		return again
	})
	return gone, complete(err)
}

// pruneStep is how many clients are deleted in one transaction, for which all others wait.
const pruneStep = 250

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
