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
	"github.com/nftproxy/nftproxy/rules/wire"
)

// nftablesGroup is NFNLGRP_NFTABLES.
const nftablesGroup = 7

// eventTime bounds how long a reading waits for the events of a commit that it has seen.
const eventTime = 2 * time.Second

// events are those that come while tables are read. The generation tells of changes anywhere in the
// namespace; only events tell whose tables they were in.
type events struct {
	sock    *nfnetlink.Socket
	table   string
	gen     uint32 // of the last commit all of whose events have come
	changed bool   // something in the table, or events were lost
}

// joinEvents joins the group of events.
func joinEvents(sock *nfnetlink.Socket, table string) (*events, error) {
	e := &events{sock: sock, table: table}
	if err := wire.Permission(e.sock.Join(nftablesGroup)); err != nil {
		return nil, fmt.Errorf("listen for changes: %w", err)
	}
	return e, nil
}

// close leaves the group and throws away what was not taken.
func (e *events) close() {
	_ = e.sock.Leave(nftablesGroup) // it cannot fail for a member
	e.sock.Drain()
}

// take takes the events that are there.
func (e *events) take() {
	for {
		more, err := e.sock.Receive(false, func(m nfnetlink.Message) {
			if gen, ok := newGeneration(m); ok {
				e.gen = gen
			} else if concerns(m, e.table) {
				e.changed = true
			}
		})
		if err != nil { // some events were lost
			e.changed = true
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) || !more && err == nil {
			return
		}
	}
}

// changedUpTo says whether the table was changed, up to a generation: the event about that is a commit's last.
func (e *events) changedUpTo(gen uint32) bool {
	deadline := time.Now().Add(eventTime)
	for e.take(); !e.changed && int32(e.gen-gen) < 0; e.take() { //nolint:gosec // the difference of counters that wrap is signed
		if ready, err := e.sock.Wait(context.Background(), max(0, time.Until(deadline))); err != nil || !ready {
			return true
		}
	}
	return e.changed
}

// newGeneration returns the generation that an event is about, if it is about one.
func newGeneration(m nfnetlink.Message) (gen uint32, ok bool) {
	if m.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
		return 0, false
	}
	for typ, v := range m.Attributes() {
		if typ == unix.NFTA_GEN_ID {
			gen, ok = v.U32(), true
		}
	}
	return gen, ok
}

// concerns says whether an event is about the tables of a name. The first attribute
// of all objects of nf_tables is their table's name.
func concerns(m nfnetlink.Message, table string) bool {
	if m.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
		return false
	}
	if typ := m.Type & 0xff; typ == unix.NFT_MSG_NEWGEN {
		return false
	}
	found := false
	for typ, v := range m.Attributes() {
		found = found || typ == unix.NFTA_TABLE_NAME && v.Text() == table
	}
	return found
}
