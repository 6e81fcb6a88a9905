// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"fmt"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// AffinityUsage counts the clients that the maps of session affinity hold. It lists
// them all: for metrics, not for each change.
func (i *Inspector) AffinityUsage(table string) ([]AffinityUsage, error) {
	var out []AffinityUsage
	err := i.eachSet(table, func(f rules.Family, id rules.SetID, s wire.Set) error {
		if id.Kind != rules.Affinity {
			return nil
		}
		u := AffinityUsage{Family: f, Map: id.Name(), Size: s.Size}
		failed := i.elements(f, table, id, func(wire.Element) { u.Clients++ })
		out = append(out, u)
		return failed
	})
	if err != nil {
		return nil, fmt.Errorf("count clients with affinity: %w", err)
	}
	return out, nil
}

// Connections reads the counters of all frontends, without order; nothing, where none
// is counted. It lists the maps of frontends: for metrics, not for each change.
func (i *Inspector) Connections(table string) ([]Connections, error) {
	var out []Connections
	err := i.eachSet(table, func(f rules.Family, id rules.SetID, s wire.Set) error {
		if !s.Counted() {
			return nil
		}
		all := map[rules.Key]Connections{} // the kernel may list one twice
		failed := i.elements(f, table, id, func(e wire.Element) {
			all[e.Key] = Connections{f, id, e.Element, e.Count}
		})
		for _, c := range all {
			out = append(out, c)
		}
		return failed
	})
	if err != nil {
		return nil, fmt.Errorf("count connections: %w", err)
	}
	return out, nil
}
