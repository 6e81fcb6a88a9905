// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// ownPause is how long Own waits before it tries again.
const ownPause = 5 * time.Millisecond

// HeldError says that another process owns a table: the kernel lets nobody else change it.
type HeldError struct {
	Family rules.Family
	Table  string
	// Port is the netlink port of the owner's socket.
	Port uint32
	// By is the owner, if /proc tells; Perhaps is the process whose pid that port is, if there is one.
	By, Perhaps rules.Process
}

// Error says which table it is, who owns it, and what to do.
func (e *HeldError) Error() string {
	who := fmt.Sprintf("a process that /proc does not show here, whose netlink port is %d", e.Port)
	switch {
	case e.By.PID != 0:
		who = processText(e.By)
	case e.Perhaps.PID != 0:
		who = fmt.Sprintf("%s, to judge by its netlink port", processText(e.Perhaps))
	}
	return fmt.Sprintf("table %s %s belongs to %s, and only that can change it: stop it first; its table stays", e.Family, printable.Word(e.Table), who)
}

func processText(p rules.Process) string {
	return fmt.Sprintf("process %d (%s)", p.PID, printable.Word(p.Name))
}

// find finds out who it is.
func (e *HeldError) find() *HeldError {
	if e.By = ownerOf(rules.Tenure{Owner: true, Port: e.Port}); e.By.PID == 0 {
		if name, ok := nfnetlink.NameOf(e.Port); ok {
			e.Perhaps = rules.Process{PID: e.Port, Name: name}
		}
	}
	return e
}

// ownerOf returns the process that owns a table, if /proc tells.
func ownerOf(t rules.Tenure) (p rules.Process) {
	if t.Owner {
		p.PID, p.Name, _ = nfnetlink.ProcessOf(t.Port)
	}
	return p
}

// CanOwn says whether the kernel has tables that belong to a process and outlive it (rules.HoldOwned): it makes one that
// goes in the same transaction.
func (k *Kernel) CanOwn() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.batch.Begin(fmt.Sprintf("nftproxy-owner-%d", k.sock.Port()))
	if err := k.batch.Add(&rules.Op{Kind: rules.AddTable, Owned: true}, func() error { return nil }); err != nil {
		return false, err
	}
	k.batch.DeleteTable(rules.IPv4)
	switch err := k.commit(&k.batch); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL): // a flag is not known, on Linux up to 6.8 and 5.12
		return false, nil
	default:
		return false, fmt.Errorf("find out whether tables can have an owner: %w", err)
	}
}

// Own takes over the tables of a name whose owner has ended: from then on nobody else can change them. One that has
// the flag owner still is tried again until ctx is done: then the error is a *HeldError. Tables that never had an owner, or do
// not exist, stay as they are: for those it takes a transaction (rules.HoldOwned).
func (k *Kernel) Own(ctx context.Context, table string) error {
	for {
		err := k.own(table)
		var held *HeldError
		if !errors.As(err, &held) {
			return err
		}
		select {
		case <-ctx.Done():
			return held.find()
		case <-time.After(ownPause):
		}
	}
}

func (k *Kernel) own(table string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.batch.Begin(table)
	for _, f := range rules.Families {
		t, err := k.head(f, table)
		switch {
		case err != nil:
			return fmt.Errorf("look who owns table %s %s: %w", f, table, err)
		case t == nil:
		case t.Tenure.Owner && !t.Tenure.Ours:
			return &HeldError{Family: f, Table: table, Port: t.Tenure.Port}
		case t.Tenure.Orphaned():
			if err := k.batch.Add(&rules.Op{Kind: rules.AddTable, Family: f, Owned: true}, func() error { return nil }); err != nil {
				return err
			}
		}
	}
	if err := k.commit(&k.batch); err != nil {
		return fmt.Errorf("take over table %s: %w", table, err)
	}
	return nil
}

// head reads a table's own attributes; nil: there is no such table.
func (k *conn) head(f rules.Family, table string) (t *rules.Table, err error) {
	err = k.ask(wire.GetTable(f, table), func(v nfnetlink.Data) { t, _ = wire.ParseTable(v) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil //nolint:nilnil // that is no error
	case err != nil || t == nil:
		return nil, err
	}
	t.Tenure = k.seenBy(t.Tenure)
	return t, nil
}

// seenBy says whether it is ours.
func (k *conn) seenBy(t rules.Tenure) rules.Tenure {
	t.Ours = t.Owner && t.Port == k.sock.Port()
	return t
}

// heldBy says who owns the table that the kernel let us not change; nil: that is not why.
func (k *conn) heldBy(o rules.Object) *HeldError {
	t, err := k.head(o.Family, o.Table)
	if err != nil || t == nil || !t.Tenure.Owner || t.Tenure.Ours {
		return nil //nolint:nilerr // why it cannot be read is not why the kernel refused
	}
	return (&HeldError{Family: o.Family, Table: o.Table, Port: t.Tenure.Port}).find()
}
