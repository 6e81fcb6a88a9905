// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"fmt"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// Clients calls fn for each client that maps of session affinity remember, without order, of those service ports that are wanted.
// One may come twice while others come and go.
func (i *Inspector) Clients(table string, wanted func(rules.ServicePortName) bool, fn func(Client)) error {
	err := i.eachSet(table, func(f rules.Family, id rules.SetID, _ wire.Set) error {
		of, local := id.ServicePort()
		if id.Kind != rules.Affinity || !wanted(of) {
			return nil
		}
		return i.elements(f, table, id, func(e wire.Element) {
			fn(Client{rules.Owner{ServicePortName: of, Family: f}, local, e.Key.Addr, e.To, e.Life.Expires})
		})
	})
	if err != nil {
		return fmt.Errorf("list clients with affinity: %w", err)
	}
	return nil
}
