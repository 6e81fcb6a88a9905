// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// mostGone is how many deletions by the kernel replace one dump of a large table: each of them walks the table, too, but copies nothing.
const mostGone = 4

// flowsTo are the flows from a frontend to an endpoint that has gone.
type flowsTo struct {
	rules.Frontend
	endpoint netip.AddrPort
}

// allGone returns the flows of targets of which nothing else can be stale than flows to endpoints that have gone; false: there is
// something else, or the kernel's filter cannot tell these from others, as it compares IPv6 addresses the wrong way round and SCTP's ports
// not at all.
func allGone(targets []Target) (out []flowsTo, ok bool) {
	for _, t := range targets {
		addrs := []netip.Addr{t.Addr}
		if !t.Addr.IsValid() || t.Addr.IsUnspecified() {
			if addrs = t.Local; len(t.Left) > 0 || t.LinkLocal {
				return nil, false
			}
		}
		if len(t.Gone) == 0 || len(addrs) == 0 || t.Protocol != rules.UDP && t.Protocol != rules.TCP {
			return nil, false
		}
		for _, a := range addrs {
			for _, e := range t.Gone {
				if !a.Is4() || !e.Addr().Is4() || len(out) == mostGone {
					return nil, false
				}
				out = append(out, flowsTo{rules.Frontend{Addr: a, Protocol: t.Protocol, Port: t.Port}, e})
			}
		}
	}
	return out, len(out) > 0
}

// deleteGone has the kernel delete flows to endpoints that have gone, of TCP those without an answer. The kernel does not say how
// many. False: it cannot, as before 6.11.
func (c *Conn) deleteGone(ctx context.Context, list []flowsTo) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range list {
		err := c.socket.Ask(ctx, goneRequest(f).Builder, func(nfnetlink.Message) {})
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			c.deletesOne.Store(true)
			return false, nil
		case err != nil:
			return false, fmt.Errorf("delete conntrack entries of %s %s to %s: %w", f.Protocol, f.Frontend.Addr, f.endpoint, err)
		}
	}
	return true, nil
}

// goneRequest asks to delete the flows that it describes. A kernel that does not know such a deletion takes the tuples for whole ones, and
// refuses them as they are not.
func goneRequest(f flowsTo) request {
	r := newRequest(msgDelete, unix.NLM_F_ACK, unix.AF_INET)
	orig, reply := partProto|partDstAddr|partDstPort, partProto|partSrcAddr|partSrcPort
	r.tuple(attrTupleOrig, f.Protocol, Tuple{Dst: netip.AddrPortFrom(f.Addr, f.Port)}, orig, 0)
	r.tuple(attrTupleReply, f.Protocol, Tuple{Src: f.endpoint}, reply, 0)
	filter := r.Nest(attrFilter)
	r.Bytes(attrFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, uint32(orig))...)
	r.Bytes(attrFilterReplyFlags, binary.NativeEndian.AppendUint32(nil, uint32(reply))...)
	r.Close(filter)
	if f.Protocol == rules.TCP {
		r.U32(attrStatus, 0)
		r.U32(attrStatusMask, StatusSeenReply)
	}
	return r
}
