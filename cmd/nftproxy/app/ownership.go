// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// ownWait is how long the tables' former owner may take to end.
const ownWait = 2 * time.Second

// openKernel opens the kernel's nftables, and finds out whether the tables are to have an owner.
func (o *runOptions) openKernel(c *rules.Config) (*kernel.Kernel, error) {
	k, err := kernel.Open()
	if err != nil {
		return nil, err
	}
	if c.Hold, err = o.hold(k, c.Table); err != nil {
		_ = k.Close()
		return nil, err
	}
	return k, nil
}

// hold says whether the tables are to have an owner: where the kernel can do that and --own-tables does not forbid it.
func (o *runOptions) hold(k *kernel.Kernel, table string) (rules.Hold, error) {
	if o.ownTables == never {
		return rules.HoldFree, nil
	}
	i, err := inspect.Open()
	if err != nil {
		return rules.HoldFree, err
	}
	defer func() { _ = i.Close() }()
	tenures, err := i.Tenures(table)
	if err != nil {
		return rules.HoldFree, err
	}
	for _, t := range tenures {
		if t != nil && t.Persist { // it needs no trial, which another process would have to look at
			return rules.HoldOwned, nil
		}
	}
	can, err := k.CanOwn()
	if err != nil || !can {
		return rules.HoldFree, err
	}
	return rules.HoldOwned, nil
}

// takeOver takes over the tables that an nftproxy has left which has ended, if they are to have an owner. Where another process
// owns them still, they cannot be programmed for now: that is tried again.
func takeOver(ctx context.Context, log klog.Logger, k *kernel.Kernel, c *rules.Config) {
	if c.Hold != rules.HoldOwned {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ownWait)
	defer cancel()
	if err := k.Own(ctx, c.Table); err != nil {
		log.Error(err, "Could not take over the tables of an earlier run; trying again")
	}
}
