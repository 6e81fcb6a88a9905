// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lock

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
)

// What package unix does not have.
const (
	tableOwnerFlag   = 2 // NFT_TABLE_F_OWNER
	tableUserdata    = 6 // NFTA_TABLE_USERDATA
	tableOwner       = 7 // NFTA_TABLE_OWNER
	batchGeneration  = 1 // NFNL_BATCH_GENID
	commentOfTable   = 0 // NFTNL_UDATA_TABLE_COMMENT
	longestComment   = 253
	errRestart       = unix.Errno(85) // ERESTART: the ruleset is of another generation
	needCapabilities = "CAP_NET_ADMIN is needed in the user namespace that the network namespace belongs to"
)

// tableName returns the name of the table that stands for the tables of a name. Those are nftproxy or begin with
// nftproxy-, so it is none of them.
func tableName(of string) string {
	program, rest, found := strings.Cut(of, "-")
	if !found {
		return program + "_lock"
	}
	return program + "_lock-" + rest
}

// claim is a lock's table.
type claim struct {
	record
	owned bool   // it goes with its owner's socket
	port  uint32 // of the owner
}

// locker makes and reads the table. It is for one caller at a time.
type locker struct {
	sock  *nfnetlink.Socket
	table string
	// ownerFlag asks for an owner. Kernels before 5.12 refuse it, as they do each flag that they do not know.
	ownerFlag uint32
	// noOwners says that this kernel has none: that shows when a table is made.
	noOwners bool
}

// openLocker opens a socket in the calling thread's network namespace.
func openLocker(table string) (*locker, error) {
	s, err := nfnetlink.Open(nfnetlink.Options{})
	if err != nil {
		return nil, err
	}
	return &locker{sock: s, table: table, ownerFlag: tableOwnerFlag}, nil
}

// read returns the claim that there is; nil if there is none.
func (l *locker) read() (*claim, error) {
	request := nfnetlink.Request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, unix.NFPROTO_IPV4)
	request.Str(unix.NFTA_TABLE_NAME, l.table)
	var c *claim
	err := l.sock.Ask(context.Background(), request, func(m nfnetlink.Message) {
		c = &claim{}
		for typ, v := range m.Attributes() {
			switch typ {
			case tableOwner:
				c.owned, c.port = true, v.U32()
			case tableUserdata:
				c.record = parseRecord(comment(v))
			}
		}
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, l.failed("read", err)
	}
	return c, nil
}

// comment returns the comment in a table's user data.
func comment(v nfnetlink.Data) string {
	for len(v) >= 2 && len(v) >= 2+int(v[1]) {
		if v[0] == commentOfTable {
			return v[2 : 2+int(v[1])].Text()
		}
		v = v[2+int(v[1]):]
	}
	return ""
}

// generation returns that of the ruleset.
func (l *locker) generation() (gen uint32, err error) {
	request := nfnetlink.Request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, unix.NLM_F_ACK, unix.AF_UNSPEC)
	err = l.sock.Ask(context.Background(), request, func(m nfnetlink.Message) {
		for typ, v := range m.Attributes() {
			if typ == unix.NFTA_GEN_ID {
				gen = v.U32()
			}
		}
	})
	if err != nil {
		return 0, l.failed("read the generation before", err)
	}
	return gen, nil
}

// errTaken says that another one was faster.
var errTaken = errors.New("another process has it")

// take makes the table. errTaken says that there is one.
func (l *locker) take(r record) error { return l.make(r, nil) }

// replace makes the table in place of one that nobody holds any more, unless the ruleset is not of a generation any more.
func (l *locker) replace(r record, gen uint32) error { return l.make(r, &gen) }

// make makes the table, with an owner where the kernel has that; in place of another if gen is not nil.
func (l *locker) make(r record, gen *uint32) error {
	if !l.noOwners {
		err := l.commit(r, l.ownerFlag, gen)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		l.noOwners = true
	}
	return l.commit(r, 0, gen)
}

// commit makes the table; in place of another if gen is not nil.
func (l *locker) commit(r record, flags uint32, gen *uint32) error {
	b := &nfnetlink.Builder{}
	b.Message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	if gen != nil {
		b.U32(batchGeneration, *gen)
	}
	b.End()
	if gen != nil {
		l.deletion(b, 0)
	}
	b.Message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, unix.NFPROTO_IPV4, 0)
	b.Str(unix.NFTA_TABLE_NAME, l.table)
	b.U32(unix.NFTA_TABLE_FLAGS, flags)
	text := r.text()
	b.Bytes(tableUserdata, append([]byte{commentOfTable, byte(len(text) + 1)}, append([]byte(text), 0)...)...) //nolint:gosec // the fields are limited
	b.End()
	return l.send("make", b)
}

// remove deletes the table, if the ruleset is of a generation.
func (l *locker) remove(gen uint32) error {
	b := &nfnetlink.Builder{}
	b.Message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.U32(batchGeneration, gen)
	b.End()
	l.deletion(b, unix.NLM_F_ACK)
	return l.send("delete", b)
}

func (l *locker) deletion(b *nfnetlink.Builder, flags uint16) {
	b.Message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE, flags, unix.NFPROTO_IPV4, 0)
	b.Str(unix.NFTA_TABLE_NAME, l.table)
	b.End()
}

// send ends a batch and sends it.
func (l *locker) send(what string, b *nfnetlink.Builder) error {
	b.Message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
	var refused error
	acked, _, err := l.sock.Transact(b.Buf, func(_ int, e *nfnetlink.Error) {
		if refused == nil {
			refused = e
		}
	})
	switch {
	case errors.Is(refused, unix.EEXIST), errors.Is(refused, unix.ENOENT), errors.Is(refused, errRestart):
		return errTaken
	case errors.Is(refused, unix.EPERM): // it has an owner: who has no rights cannot even read
		return errTaken
	case refused != nil:
		return l.failed(what, refused)
	case err != nil:
		return l.failed(what, err)
	case !acked:
		return fmt.Errorf("%s table ip %s: the kernel gave no answer", what, l.table)
	}
	return nil
}

func (l *locker) failed(what string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s table ip %s: %w: %s", what, l.table, err, needCapabilities)
	}
	return fmt.Errorf("%s table ip %s: %w", what, l.table, err)
}
