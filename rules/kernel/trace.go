// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// traceTable holds the rules that choose what is traced. It belongs to the socket that
// made it (kernel 5.12): it goes with it, however this program ends.
const traceTable = "nftproxy-trace"

// tracePriority is after connection tracking knows the packet, and before our chains
// change it.
const tracePriority = -150

const (
	traceGroup     = 9  // NFNLGRP_NFTRACE
	traceMessage   = 17 // NFT_MSG_TRACE
	ctStateNew     = 8  // NF_CT_STATE_BIT(IP_CT_NEW)
	traceTypeRule  = 3  // NFT_TRACETYPE_RULE
	verdictDropped = 0  // NF_DROP
)

// Attributes of NFT_MSG_TRACE, enum nft_trace_attributes.
const (
	traceAttrTable     = 1
	traceAttrChain     = 2
	traceAttrType      = 4
	traceAttrVerdict   = 5
	traceAttrID        = 6
	traceAttrNetwork   = 8
	traceAttrTransport = 9
	traceAttrNfproto   = 15
)

// TraceFilter chooses what is traced: new connections that are all of this. Zero values
// choose everything.
type TraceFilter struct {
	From, To netip.Prefix
	ToPort   uint16
	Protocol rules.Protocol // with ToPort it is needed
}

// TraceEvent is what a rule, or the end of a chain, did with a packet.
type TraceEvent struct {
	ID      uint32 // of the packet, for a while
	Table   string
	Chain   string
	Dropped bool // by a rule
	// Src, Dst and Protocol are the packet's, if the event has them: the first of each hook does.
	Src, Dst netip.AddrPort
	Protocol rules.Protocol
}

// Trace is tracing that goes on.
type Trace struct {
	conn *nftables.Conn
	sock *socket
}

// Trace begins to trace new connections in the calling thread's network namespace.
// Nothing happens to packets by it.
func (k *Kernel) Trace(filter TraceFilter) (*Trace, error) {
	sock, err := openSocket()
	if err != nil {
		return nil, err
	}
	t := &Trace{sock: sock}
	if err = unix.SetsockoptInt(sock.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, traceGroup); err != nil {
		_ = sock.close()
		return nil, fmt.Errorf("trace: join event group: %w", err)
	}
	if t.conn, err = nftables.New(nftables.AsLasting()); err != nil {
		_ = sock.close()
		return nil, fmt.Errorf("trace: open netlink socket: %w", err)
	}
	if err := t.mark(filter); err != nil {
		_ = t.Close()
		if errors.Is(err, unix.EINVAL) {
			return nil, fmt.Errorf("trace: the kernel has no tables that go with the program that made them; it takes Linux 5.12: %w", err)
		}
		return nil, fmt.Errorf("trace: add table %s, which chooses what is traced (is another trace running?): %w", traceTable, err)
	}
	return t, nil
}

// mark makes the table, which goes with its socket.
func (t *Trace) mark(filter TraceFilter) error {
	table := &nftables.Table{Name: traceTable, Family: nftables.TableFamilyINet, Flags: nftables.TableFlagOwner}
	t.conn.AddTable(table)
	for name, hook := range map[string]*nftables.ChainHook{"prerouting": nftables.ChainHookPrerouting, "output": nftables.ChainHookOutput} {
		chain := t.conn.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook,
			Priority: nftables.ChainPriorityRef(tracePriority)})
		for _, f := range filter.families() {
			t.conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: filter.expressions(f)})
		}
	}
	return t.conn.Flush()
}

// families returns those that the addresses leave.
func (f TraceFilter) families() []rules.Family {
	for _, p := range []netip.Prefix{f.From, f.To} {
		if p.IsValid() {
			return []rules.Family{rules.FamilyOf(p.Addr())}
		}
	}
	return rules.Families[:]
}

func (f TraceFilter) expressions(family rules.Family) []expr.Any {
	out := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{nfproto(family)}, false),
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ctStateNew), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
	if f.From.IsValid() {
		out = append(out, matchPrefix(family, true, f.From, false)...)
	}
	if f.To.IsValid() {
		out = append(out, matchPrefix(family, false, f.To, false)...)
	}
	if f.Protocol != 0 {
		out = append(out, loadL4(0), equal([]byte{byte(f.Protocol)}, false))
	}
	if f.ToPort != 0 {
		const offset = 2
		out = append(out, loadPort(register(0), offset), equal(binary.BigEndian.AppendUint16(nil, f.ToPort), false))
	}
	return append(out, &expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1})
}

// Next calls fn for each event until ctx ends, and pause every few events and moments.
func (t *Trace) Next(ctx context.Context, fn func(TraceEvent), pause func()) error {
	fds := []unix.PollFd{{Fd: int32(t.sock.fd), Events: unix.POLLIN}}
	const moment = 20 // milliseconds
	for ctx.Err() == nil {
		n, err := unix.Poll(fds, moment)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("trace: %w", err)
		case n == 0:
			pause()
			continue
		}
		pause()
		if _, err := t.sock.receive(false, func(m message) error {
			if m.typ == unix.NFNL_SUBSYS_NFTABLES<<8|traceMessage && len(m.data) > 4 {
				fn(parseTrace(m.data[4:]))
			}
			return nil
		}); err != nil && !errors.Is(err, unix.ENOBUFS) { // what was too much is lost
			return fmt.Errorf("trace: %w", err)
		}
	}
	return nil
}

func parseTrace(v []byte) TraceEvent {
	var e TraceEvent
	var kind, family uint32
	var network, transport []byte
	verdict := uint32(1)
	eachAttr(v, func(typ uint16, v []byte) {
		switch typ {
		case traceAttrTable:
			e.Table = text(v)
		case traceAttrChain:
			e.Chain = text(v)
		case traceAttrType:
			kind = be32(v)
		case traceAttrID:
			e.ID = be32(v)
		case traceAttrNetwork:
			network = v
		case traceAttrTransport:
			transport = v
		case traceAttrNfproto:
			family = be32(v)
		case traceAttrVerdict:
			eachAttr(v, func(typ uint16, v []byte) {
				if typ == unix.NFTA_VERDICT_CODE {
					verdict = be32(v)
				}
			})
		}
	})
	e.Dropped = kind == traceTypeRule && verdict&0xff == verdictDropped
	e.parseHeaders(family, network, transport)
	return e
}

func (e *TraceEvent) parseHeaders(family uint32, network, transport []byte) {
	if len(transport) < 4 {
		return
	}
	var src, dst netip.Addr
	switch {
	case family == unix.NFPROTO_IPV4 && len(network) >= 20:
		e.Protocol = rules.Protocol(network[9])
		src, _ = netip.AddrFromSlice(network[12:16])
		dst, _ = netip.AddrFromSlice(network[16:20])
	case family == unix.NFPROTO_IPV6 && len(network) >= 40:
		e.Protocol = rules.Protocol(network[6])
		src, _ = netip.AddrFromSlice(network[8:24])
		dst, _ = netip.AddrFromSlice(network[24:40])
	default:
		return
	}
	e.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(transport))
	e.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(transport[2:]))
}

// Close ends tracing: its table goes.
func (t *Trace) Close() error {
	return errors.Join(t.conn.CloseLasting(), t.sock.close())
}
