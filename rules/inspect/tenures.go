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

// Tenures says who may change the tables of a name, in each family; nil: there is no such table. An owner's process is looked
// for in the calling thread's network namespace.
func (i *Inspector) Tenures(table string) (out [2]*rules.Tenure, err error) {
	for _, f := range rules.Families {
		err := i.ask(wire.GetTable(f, table), func(v nfnetlink.Data) {
			t, _ := wire.ParseTable(v)
			out[f] = &t.Tenure
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return [2]*rules.Tenure{}, fmt.Errorf("read table %s %s: %w", f, table, err)
		}
		if t := out[f]; t != nil && t.Owner {
			t.By.PID, t.By.Name, _ = nfnetlink.ProcessOf(t.Port)
		}
	}
	return out, nil
}
