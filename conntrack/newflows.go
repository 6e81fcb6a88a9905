// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// newFlowsGroup is NFNLGRP_CONNTRACK_NEW.
const newFlowsGroup = 1

// WatchNew calls fn for each new flow of the calling thread's network namespace until
// ctx ends. Flows may be lost when there are more than fn can take: lost is told. Since
// the kernel tells of a flow when its first packet has passed, flows that are refused or
// dropped are not among them.
func WatchNew(ctx context.Context, fn func(Flow), lost func()) error {
	s, err := openSocket()
	if err != nil {
		return fmt.Errorf("watch new connections: %w", err)
	}
	defer func() { _ = s.close() }()
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // as much as it may have
	if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, newFlowsGroup); err != nil {
		return fmt.Errorf("watch new connections: join event group: %w", err)
	}
	const tick = 50_000 // microseconds: how soon the end of ctx is seen
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: tick}); err != nil {
		return fmt.Errorf("watch new connections: %w", err)
	}
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ENOBUFS):
			lost()
			continue
		case err != nil:
			return fmt.Errorf("watch new connections: %w", err)
		}
		_ = eachMessage(s.buf[:n], func(m answer) { // what is cut off was too long for all that matters
			if len(m.data) > 4 {
				if f, ok := decodeFlow(m.data[4:]); ok {
					fn(f)
				}
			}
		})
	}
	return nil
}

// Get returns the flow that a client's packets have begun, in the default zone; false if there
// is none.
func (c *Conn) Get(ctx context.Context, proto rules.Protocol, orig Tuple) (Flow, bool, error) {
	m := newMessage(msgGet, 0, familyOf(orig.Dst.Addr()))
	m.tuple(attrTupleOrig, proto, orig, partsAll, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	var flow Flow
	var found bool
	m[6] |= unix.NLM_F_ACK
	var failed error
	err := c.socket.exchange(ctx, []message{m}, func(data []byte) { flow, found = decodeFlow(data) }, func(_ int, err error) { failed = err })
	if err == nil && failed != nil && !errors.Is(failed, unix.ENOENT) {
		err = failed
	}
	if err != nil {
		return Flow{}, false, fmt.Errorf("look a connection up: %w", err)
	}
	return flow, found, nil
}
