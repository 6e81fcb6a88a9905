// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// ownWait is how long the tables' former owner may take to end.
const ownWait = 2 * time.Second

// hold says whether the tables are to have an owner, where the kernel can do that and --own-tables does not forbid it, and takes
// over those that an nftproxy has left which has ended. Where another process owns them still, they cannot be programmed for now:
// that is tried again.
func (o *runOptions) hold(ctx context.Context, log klog.Logger, k *kernel.Kernel, table string) (rules.Hold, error) {
	if o.ownTables == never {
		return rules.HoldFree, nil
	}
	can, err := k.CanOwn()
	if err != nil || !can {
		return rules.HoldFree, err
	}
	ctx, cancel := context.WithTimeout(ctx, ownWait)
	defer cancel()
	if err := k.Own(ctx, table); err != nil {
		log.Error(err, "Could not take over the tables of an earlier run; trying again")
	}
	return rules.HoldOwned, nil
}

// ownersOf says who can change tables, and whether all have an owner.
func ownersOf(s rules.State) (text string, owned bool) {
	var list []string
	owned = true
	for _, f := range rules.Families {
		t := s.Tables[f]
		if t == nil {
			continue
		}
		owned = owned && t.Tenure.Owner
		who := "anybody can change it"
		switch {
		case t.Tenure.By.PID != 0:
			who = fmt.Sprintf("only process %d (%s) can change it", t.Tenure.By.PID, printable.Word(t.Tenure.By.Name))
		case t.Tenure.Owner:
			who = fmt.Sprintf("only a process that /proc does not show here can change it (netlink port %d)", t.Tenure.Port)
		case t.Tenure.Orphaned():
			who = "its owner has ended, and the next nftproxy takes it over"
		}
		list = append(list, fmt.Sprintf("%s %s: %s", f, printable.Word(s.Name), who))
	}
	return strings.Join(list, "; "), owned
}
