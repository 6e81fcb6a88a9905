// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// newFlowsGroup is NFNLGRP_CONNTRACK_NEW.
const newFlowsGroup = 1

// newFlowsBuffer is how many bytes of new flows may wait, as far as the system lets it.
const newFlowsBuffer = 8 << 20

// WatchNew calls fn for each new flow of the calling thread's network namespace until
// ctx ends. Flows may be lost when there are more than fn can take: lost is told. Since
// the kernel tells of a flow when its first packet has passed, flows that are refused or
// dropped are not among them.
func WatchNew(ctx context.Context, fn func(Flow), lost func()) error {
	s, err := nfnetlink.Open(nfnetlink.Options{ReceiveBuffer: newFlowsBuffer})
	if err != nil {
		return fmt.Errorf("watch new connections: %w", err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Join(newFlowsGroup); err != nil {
		return fmt.Errorf("watch new connections: %w", err)
	}
	for ctx.Err() == nil {
		more, err := s.Receive(false, func(m nfnetlink.Message) {
			if f, ok := decodeFlow(m.Body()); ok {
				fn(f)
			}
		})
		switch {
		case errors.Is(err, unix.ENOBUFS):
			lost()
		case err == nil && !more:
			_, err = s.Wait(ctx, -1)
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("watch new connections: %w", err)
		}
	}
	return nil
}

// Get returns the flow that a client's packets have begun, in the default zone; false if there
// is none.
func (c *Conn) Get(ctx context.Context, proto rules.Protocol, orig Tuple) (Flow, bool, error) {
	return c.get(ctx, Flow{Protocol: proto, Orig: orig})
}

// get returns the flow that has the protocol, the original tuple and the zones of another one.
func (c *Conn) get(ctx context.Context, f Flow) (flow Flow, found bool, err error) {
	r := newRequest(msgGet, unix.NLM_F_ACK, familyOf(f.Orig.Dst.Addr()))
	r.whole(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.socket.Ask(ctx, r.Builder, func(m nfnetlink.Message) { flow, found = decodeFlow(m.Body()) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return Flow{}, false, fmt.Errorf("look a connection up: %w", err)
	}
	return flow, found, nil
}
