// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// Filled calls fn for each element of the set of a kind of which a table has one, with what is left of its time where it has a
// timeout. An element may come twice, and some may not come, if others change the set meanwhile. A set that does not exist is
// empty.
func (i *Inspector) Filled(table string, f rules.Family, kind rules.SetKind, fn func(rules.Element, rules.Lifetime)) error {
	id := rules.SetID{Kind: kind}
	if err := i.elements(f, table, id, func(e wire.Element) { fn(e.Element, e.Life) }); err != nil {
		return fmt.Errorf("read %s set %s of table %s: %w", f, id.Name(), table, err)
	}
	return nil
}

// Lookup returns the value of an element; false if there is none, or no such set.
func (i *Inspector) Lookup(table string, f rules.Family, id rules.SetID, key rules.Key) (v rules.Value, found bool, err error) {
	err = i.ask(wire.GetElement(f, table, id, key), func(data nfnetlink.Data) {
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
