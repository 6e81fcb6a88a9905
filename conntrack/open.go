// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"fmt"
	"time"

	"github.com/nftproxy/nftproxy/internal/cputime"
	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// CountOpen counts for each of the backends how many connections are open to it that came through a Service, and returns the CPU
// time that it took. TCP's connections that are closing do not count; of UDP each flow that is tracked does. One walk
// of the table serves all. An entry may count twice if others come and go meanwhile. After an error the counts are of no use.
func (c *Conn) CountOpen(ctx context.Context, backends map[rules.Backend]uint32) (busy time.Duration, err error) {
	busy = cputime.Of(func() { err = c.countOpen(ctx, backends) })
	if err != nil {
		err = fmt.Errorf("count conntrack entries: %w", err)
	}
	return busy, err
}

func (c *Conn) countOpen(ctx context.Context, backends map[rules.Backend]uint32) error {
	q := queryFor(backends)
	c.mu.Lock()
	defer c.mu.Unlock()
	return nfnetlink.Again(func() error {
		for b := range backends {
			backends[b] = 0 // not what an interrupted walk has counted
		}
		return c.dumpWith(ctx, dumpRequest(q), q, func(f Flow) {
			b := rules.Backend{Protocol: f.Protocol, Addr: f.Reply.Src}
			if n, asked := backends[b]; asked && f.forwarded() && f.open() {
				backends[b] = n + 1
			}
		})
	})
}

// EachOpen calls fn for each connection that is open and whose destination was translated, by whomever. One may come twice if
// others come and go meanwhile.
func (c *Conn) EachOpen(ctx context.Context, fn func(Flow)) error {
	return c.dump(ctx, query{}, func(f Flow) {
		if f.forwarded() && f.open() {
			fn(f)
		}
	})
}

// queryFor returns the query that sees all flows to backends: of one family where they have one. The kernel filters no more
// than that, as that would hold up a CPU.
func queryFor(backends map[rules.Backend]uint32) query {
	var q query
	first := true
	for b := range backends {
		family := familyOf(b.Addr.Addr())
		if !first && family != q.family {
			return query{}
		}
		q.family, first = family, false
	}
	return q
}

// The kernel's states of connections, of enums tcp_conntrack and sctp_conntrack.
const (
	tcpEstablished  = 3
	tcpSynSent2     = 9
	sctpCookieWait  = 2
	sctpEstablished = 4
	sctpHeartbeat   = 8
)

// open says whether a flow is open, or about to be.
func (f *Flow) open() bool {
	switch f.Protocol {
	case rules.TCP:
		return f.State <= tcpEstablished || f.State == tcpSynSent2
	case rules.SCTP:
		return f.State == 0 || f.State >= sctpCookieWait && f.State <= sctpEstablished || f.State >= sctpHeartbeat
	}
	return true
}
