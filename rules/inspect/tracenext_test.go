// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// waiting is a transport in which datagrams wait to be read; where endless is set, there is always one more.
type waiting struct {
	nfnetlink.Transport
	left    int
	endless bool
	lost    bool // before the next
}

func (w *waiting) Wait(context.Context, time.Duration) (bool, error) {
	return w.left > 0 || w.endless, nil
}

func (w *waiting) Receive(buf []byte, _ bool) (int, error) {
	if w.lost {
		w.lost = false
		return 0, unix.ENOBUFS
	}
	w.left--
	binary.NativeEndian.PutUint32(buf, unix.NLMSG_HDRLEN)
	clear(buf[4:unix.NLMSG_HDRLEN])
	return unix.NLMSG_HDRLEN, nil
}

// TestTraceReadsAll: what waits to be read is read before it is asked what became of a packet, and also after some of it was lost.
func TestTraceReadsAll(t *testing.T) {
	for _, endless := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		w := &waiting{left: 5, endless: endless, lost: true}
		trace, lost := &Trace{sock: nfnetlink.NewSocket(w)}, 0
		err := trace.Next(ctx, func(wire.TraceEvent) {}, func() {
			if cancel(); w.left > 0 {
				t.Errorf("endless: %v: %d were not read", endless, w.left)
			}
		}, func() { lost++ })
		if err != nil || lost != 1 {
			t.Errorf("endless: %v: %v, lost %d times", endless, err, lost)
		}
	}
}
