// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/internal/cputime"
	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// deleteBatch is how many deletions go out at once. Their answers must fit the
// socket's receive buffer, 208 KiB by default, at about 1 KiB each.
const deleteBatch = 64

// Conn lists and deletes conntrack entries of one network namespace: those with ports, in
// all zones. It is safe for concurrent use.
type Conn struct {
	mu      sync.Mutex
	socket  *nfnetlink.Socket
	listing *os.File // nil: the kernel's text is not used
}

// Open returns a connection to the network namespace of the calling thread. It
// stays there, whichever threads use it later. Its use needs CAP_NET_ADMIN over that
// namespace. The caller closes it.
func Open() (*Conn, error) {
	runtime.LockOSThread() // both are of one thread's network namespace
	defer runtime.UnlockOSThread()
	s, err := nfnetlink.Open(nfnetlink.Options{})
	if err != nil {
		return nil, fmt.Errorf("open conntrack: %w", err)
	}
	return &Conn{socket: s, listing: openListing()}, nil
}

// Close ends the connection, which must not be used afterwards.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.listing.Close() // there may be none
	return c.socket.Close()
}

// List returns the flows whose original destination is the frontend. For a frontend
// without an address of its own these are all flows to its port, at whatever
// address. A flow may come twice if others come and go meanwhile.
func (c *Conn) List(ctx context.Context, f rules.Frontend) ([]Flow, error) {
	var flows []Flow
	for _, q := range queries(f) {
		if err := c.dump(ctx, q, func(flow Flow) { flows = append(flows, flow) }); err != nil {
			return nil, err
		}
	}
	return flows, nil
}

// Clean deletes the stale flows to the targets' frontends and returns
// how many. After an error it still deletes what it knows of, unless ctx is done.
//
// now returns the targets as they are then; nil: they do not change. To list a large table takes a while, and a flow to an
// endpoint that has come meanwhile is not stale.
func (c *Conn) Clean(ctx context.Context, targets []Target, now func() []Target) (Deleted, error) {
	var n Deleted
	var err error
	n.Busy = cputime.Of(func() {
		n, err = c.clean(ctx, targets, now, c.look(ctx, targets))
	})
	return n, err
}

// look is a way to find stale flows.
type look uint8

const (
	lookFiltered look = iota // in dumps that the kernel filters
	lookWhole                // in one that it does not filter
	lookListed               // in the kernel's text
	lookNone                 // there are no flows
)

// look returns the way that costs least.
func (c *Conn) look(ctx context.Context, targets []Target) look {
	u, err := c.Usage(ctx)
	switch {
	case err != nil:
		return lookWhole
	case u.Entries == 0:
		return lookNone
	case c.listing != nil && u.Entries <= listingMost:
		return lookListed
	case unfiltered(len(plan(targets, false)), u.Entries):
		return lookWhole
	}
	return lookFiltered
}

// clean looks for stale flows and deletes them.
func (c *Conn) clean(ctx context.Context, targets []Target, now func() []Target, way look) (Deleted, error) {
	index := newIndex(targets)
	stale, err := c.find(ctx, targets, index.stale, way)
	if now != nil && len(stale) > 0 {
		index = newIndex(now())
		stale = slices.DeleteFunc(stale, func(f Flow) bool { return !index.stale(f) })
	}
	var by [2][]Flow
	for _, f := range stale {
		family := rules.FamilyOf(f.Orig.Dst.Addr())
		by[family] = append(by[family], f)
	}
	n4, err4 := c.Delete(ctx, by[rules.IPv4])
	n6, err6 := c.Delete(ctx, by[rules.IPv6])
	return Deleted{V4: n4, V6: n6}, errors.Join(err, err4, err6)
}

// find returns the flows for which stale says so. After an error it returns those that it knows of.
func (c *Conn) find(ctx context.Context, targets []Target, stale func(Flow) bool, way look) (out []Flow, err error) {
	switch way {
	case lookNone:
		return nil, ctx.Err()
	case lookListed:
		if out, err = c.listed(ctx, stale); err == nil {
			return out, nil
		}
	default:
	}
	var errs []error
	for _, q := range plan(targets, way == lookWhole) {
		err := c.dump(ctx, q, func(f Flow) {
			if stale(f) {
				out = append(out, f)
			}
		})
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return out, errors.Join(errs...)
}

// dump calls fn for each entry that the query selects. An entry may come twice if
// others come and go meanwhile. After an error some may not have come.
func (c *Conn) dump(ctx context.Context, q query, fn func(Flow)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := nfnetlink.Again(func() error { return c.dumpOnce(ctx, q, fn) }); err != nil {
		return fmt.Errorf("list conntrack entries to %s: %w", q, err)
	}
	return nil
}

func (c *Conn) dumpOnce(ctx context.Context, q query, fn func(Flow)) error {
	err := error(unix.EOPNOTSUPP) // without a family
	if q.family != 0 {
		err = c.dumpWith(ctx, filteredDumpRequest(q), q, fn)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		// The kernel does not know the filter. It refuses before it sends an entry.
		err = c.dumpWith(ctx, dumpRequest(q), q, fn)
	}
	return err
}

func (c *Conn) dumpWith(ctx context.Context, r request, q query, fn func(Flow)) error {
	return c.socket.Ask(ctx, r.Builder, func(m nfnetlink.Message) {
		if f, ok := decodeFlow(m.Body()); ok && q.matches(f) {
			fn(f)
		}
	})
}

// Delete deletes the entries of flows, as they were listed, and returns how many were
// there. One that is gone is no error, and one that came after it with the same
// addresses and ports is left alone.
func (c *Conn) Delete(ctx context.Context, flows []Flow) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	deleted := 0
	var errs []error
	for chunk := range slices.Chunk(flows, deleteBatch) {
		n, err := c.deleteChunk(ctx, chunk)
		deleted += n
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return deleted, errors.Join(errs...)
}

func (c *Conn) deleteChunk(ctx context.Context, flows []Flow) (int, error) {
	var requests []byte
	for _, f := range flows {
		// The kernel takes a deletion without a tuple as one of the whole table.
		if !complete(f.Orig) {
			return 0, fmt.Errorf("delete conntrack entry %s: incomplete; pass flows as listed", f)
		}
		r := deleteRequest(f)
		r.End()
		requests = append(requests, r.Buf...)
	}
	deleted, failed := 0, 0
	var first error
	err := c.socket.Exchange(ctx, requests, func(nfnetlink.Message) {}, func(i int, err error) {
		switch {
		case err == nil:
			deleted++
		case errors.Is(err, unix.ENOENT):
		default:
			if failed++; first == nil {
				first = fmt.Errorf("delete conntrack entry %s: %w", flows[i], err)
			}
		}
	})
	if failed > 1 {
		first = fmt.Errorf("%w, and %d more", first, failed-1)
	}
	if err != nil {
		err = fmt.Errorf("delete conntrack entries: %w", err)
	}
	return deleted, errors.Join(err, first)
}

func complete(t Tuple) bool {
	valid := func(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() }
	src, dst := t.Src.Addr(), t.Dst.Addr()
	return valid(src) && valid(dst) && src.Is4() == dst.Is4()
}
