// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// Connections is how many new connections a frontend has had since its element was added.
type Connections struct {
	Family rules.Family
	Set    rules.SetID
	rules.Element
	rules.Counter
}

// Connections reads the counters of all frontends, without order; nothing, where none
// is counted. It lists the maps of frontends: for metrics, not for each change.
func (k *Kernel) Connections(table string) ([]Connections, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []Connections
	for _, f := range rules.Families {
		t, err := k.setList(f, table)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("count connections: %w", err)
		}
		for id := range t.Sets {
			if !t.Counted || !id.Kind.Serves() {
				continue
			}
			all := map[rules.Key]Connections{} // the kernel may list one twice
			err := k.readElements(f, table, id, func(e element) bool {
				all[e.Key] = Connections{f, id, e.Element, e.count}
				return false
			})
			if complete(err) != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, errChanged) {
				return nil, fmt.Errorf("count connections in %s: %w", id.Name(), err)
			}
			for _, c := range all {
				out = append(out, c)
			}
		}
	}
	return out, nil
}
