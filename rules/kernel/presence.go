// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// Presence is what is there of a table.
type Presence struct {
	Table    bool // it is there
	Forwards bool // it is in force, and leads to an endpoint
}

// Presence says what is there of the tables of a name, of no single moment.
func (k *Kernel) Presence(table string) (out [2]Presence, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range rules.Families {
		t, err := k.setList(f, table)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("look for table %s %s: %w", f, table, err)
		}
		out[f].Table = true
		head, _, err := k.readTableOnly(f, table)
		if err != nil {
			return out, fmt.Errorf("look at table %s %s: %w", f, table, err)
		}
		if head == nil || head.Dormant { // it has just gone, or its chains are not in force
			out[f].Table = head != nil
			continue
		}
		for id := range t.Sets {
			if out[f].Forwards {
				break
			}
			out[f].Forwards, err = k.leadsToEndpoints(f, table, id)
			if err != nil {
				return out, fmt.Errorf("look into %s of table %s %s: %w", id.Name(), f, table, err)
			}
		}
	}
	return out, nil
}

// leadsToEndpoints says whether a map has endpoints.
func (k *Kernel) leadsToEndpoints(f rules.Family, table string, id rules.SetID) (some bool, err error) {
	if id.Kind.Forwards() {
		err = complete(k.readElements(f, table, id, func(element) bool { some = true; return false }))
		if errors.Is(err, unix.ENOENT) { // it has just gone
			err = nil
		}
	}
	return some, err
}
