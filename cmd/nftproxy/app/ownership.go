// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"time"

	"k8s.io/klog/v2"

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
