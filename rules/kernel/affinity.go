// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// AffinityUsage is how full a map of clients is.
type AffinityUsage struct {
	Family  rules.Family
	Map     string // its name
	Clients int
	Size    uint32
}

// AffinityUsage counts the clients that the maps of session affinity hold. It lists
// them all: for metrics, not for each change.
func (k *Kernel) AffinityUsage(table string) ([]AffinityUsage, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []AffinityUsage
	for _, f := range rules.Families {
		t, err := k.setList(f, table)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("count clients with affinity: %w", err)
		}
		for id, m := range t.Affinity {
			u := AffinityUsage{Family: f, Map: id.Name(), Size: m.Size}
			err := k.readElements(f, table, id, func(element) bool { u.Clients++; return false })
			if complete(err) != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, errChanged) {
				return nil, fmt.Errorf("count clients in %s: %w", id.Name(), err)
			}
			out = append(out, u)
		}
	}
	return out, nil
}
