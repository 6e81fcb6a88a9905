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

// hold says whether the tables are to have an owner: where the kernel can do that, unless --own-tables says no.
func (o *runOptions) hold(k *kernel.Kernel) (rules.Hold, error) {
	if o.ownTables == never {
		return rules.HoldFree, nil
	}
	can, err := k.CanOwn()
	switch {
	case err != nil:
		return 0, err
	case can:
		return rules.HoldOwned, nil
	}
	return rules.HoldFree, nil
}

// ownWait is how long the tables' former owner may take to end.
const ownWait = 2 * time.Second

// takeOver takes over the tables that an nftproxy has left which has ended. Where another process owns them still, they cannot be
// programmed for now: that is tried again.
func takeOver(ctx context.Context, log klog.Logger, k *kernel.Kernel, table string) {
	ctx, cancel := context.WithTimeout(ctx, ownWait)
	defer cancel()
	if err := k.Own(ctx, table); err != nil {
		log.Error(err, "Could not take over the tables of an earlier run")
	}
}

// ownership says whether tables can have an owner, and who can change those that there are.
func (o *checkOptions) ownership(r *report, k *kernel.Kernel) {
	const what = "owned tables"
	can, err := k.CanOwn()
	if err != nil {
		r.warning(what, printable.Error(err))
		return
	}
	if !can {
		r.ok(what, "the kernel has none (Linux 6.9 does): what other programs change in nftproxy's tables is repaired, not refused")
		return
	}
	state, err := k.ReadHeads(tableName(o.source.proxyName))
	if err != nil {
		r.warning(what, printable.Error(err))
		return
	}
	text, owned := ownersOf(state)
	if text == "" {
		r.ok(what, "the kernel has them; there are no tables of nftproxy's yet")
	} else if pid, _ := runningOf(o.root, o.source.proxyName); pid != "" && !owned {
		r.warning(what, text+"; what other programs change is repaired, not refused: nftproxy runs with --own-tables=never, or is of a version without it")
	} else {
		r.ok(what, text)
	}
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
