// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"os"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// TestTenures: tables that anybody may change, and those of this process.
func TestTenures(t *testing.T) {
	h := newHost(t)
	tenures := func() (list [2]*rules.Tenure) {
		t.Helper()
		if err := h.ns.Do(func() (err error) { list, err = h.Tenures(rules.DefaultTable); return err }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := tenures(); list != [2]*rules.Tenure{} {
		t.Errorf("no tables: %+v", list)
	}
	h.load(t, state(rules.Config{}, 0))
	for f, tenure := range tenures() {
		if tenure == nil || *tenure != (rules.Tenure{}) {
			t.Errorf("table %s: %+v, want nobody's", rules.Family(f), tenure)
		}
	}
	if can, err := h.kernel.CanOwn(); err != nil || !can {
		t.Skipf("this kernel has no tables that belong to a process and outlive it: %v", err)
	}
	h.load(t, state(rules.Config{Hold: rules.HoldOwned}, 0))
	for f, tenure := range tenures() {
		if tenure == nil || !tenure.Owner || !tenure.Persist || tenure.Ours || tenure.By.PID != uint32(os.Getpid()) {
			t.Errorf("table %s: %+v, want it to be that of process %d", rules.Family(f), tenure, os.Getpid())
		}
	}
}
