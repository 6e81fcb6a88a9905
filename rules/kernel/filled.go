// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// Filled calls fn for each element that packets have put into a set of the kind, of which a table has one, with what is left of its time.
// An element may come twice, and some may not come, if others change the set meanwhile. A set that does not exist is empty.
func (k *Kernel) Filled(table string, f rules.Family, kind rules.SetKind, fn func(rules.Element, rules.Lifetime)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := rules.SetID{Kind: kind}
	err := k.ask(wire.GetElements(f, table, id), func(v nfnetlink.Data) {
		wire.EachElement(f, kind, v, func(e wire.Element) {
			if e.OddKey == "" {
				fn(e.Element, e.Life)
			}
		})
	})
	if err = complete(err); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("read %s set %s of table %s: %w", f, id.Name(), table, err)
	}
	return nil
}

// Lookup returns the value of an element; false if there is none, or no such set.
func (k *Kernel) Lookup(table string, f rules.Family, id rules.SetID, key rules.Key) (v rules.Value, found bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err = k.ask(wire.GetElement(f, table, id, key), func(data nfnetlink.Data) {
		wire.EachElement(f, id.Kind, data, func(e wire.Element) {
			if e.OddKey == "" && e.Key == key {
				v, found = e.Value, true
			}
		})
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return v, false, fmt.Errorf("read an element of %s set %s of table %s: %w", f, id.Name(), table, err)
	}
	return v, found, nil
}
