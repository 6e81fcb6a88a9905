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
			if !again && !slices.Contains(op.Keep, e.To) {
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
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, errChanged) {
			break
		}
	}
	return fmt.Errorf("%s: %w", op.Object(k.batch.table), err)
}

// deleteNow deletes elements in a transaction of their own.
func (k *Kernel) deleteNow(op *rules.Op) error {
	k.batch.reset()
	if err := k.batch.elementUnits(op, func() error { return nil }); err != nil {
		return err
	}
	return k.flush()
}
