// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// TestOwners: who can change the tables, of each kind of owner.
func TestOwners(t *testing.T) {
	mine := rules.Tenure{Owner: true, Persist: true, Port: 99}
	named := mine
	named.By = rules.Process{PID: 4711, Name: "nft\nproxy"}
	for _, row := range []struct {
		tables [2]*rules.Tenure
		want   string
		free   bool
	}{
		{[2]*rules.Tenure{}, "", false},
		{[2]*rules.Tenure{&named, &mine}, `ip nftproxy: only process 4711 (nft\nproxy) can change it; ` +
			"ip6 nftproxy: only a process that /proc does not show here can change it (netlink port 99)", false},
		{[2]*rules.Tenure{nil, {Persist: true}}, "ip6 nftproxy: its owner has ended, and the next nftproxy takes it over", false},
		{[2]*rules.Tenure{&named, {}}, `ip nftproxy: only process 4711 (nft\nproxy) can change it; ip6 nftproxy: anybody can change it`, true},
	} {
		if text, free := owners("nftproxy", row.tables); text != row.want || free != row.free {
			t.Errorf("%q, %t; want %q, %t", text, free, row.want, row.free)
		}
	}
}
