// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"testing"

	"github.com/nftproxy/nftproxy/nfnetlink"
)

// FuzzFlow: what is read of an entry is what its deletion says, or else it is not deleted.
func FuzzFlow(f *testing.F) {
	for _, flow := range table() {
		m := newRequest(msgGet, 0, familyOf(flow.Orig.Dst.Addr()))
		m.tuple(attrTupleOrig, flow.Protocol, flow.Orig, partsAll, 3)
		m.tuple(attrTupleReply, flow.Protocol, flow.Reply, partsAll, 4)
		m.U32(attrStatus, flow.Status)
		m.U32(attrID, 7)
		f.Add(append([]byte(nil), m.Buf[nfnetlink.HeaderLen:]...))
		m.U16(attrZone, 5)
		f.Add(append([]byte(nil), m.Buf[nfnetlink.HeaderLen:]...))
	}
	f.Add([]byte{4, 0, 1, 0})
	f.Add([]byte{255, 255, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		flow, ok := decodeFlow(data)
		if !ok || !complete(flow.Orig) {
			return
		}
		again := deleteRequest(flow)
		_, _, reply := flow.Zones.split()
		again.tuple(attrTupleReply, flow.Protocol, flow.Reply, partsAll, reply)
		again.U32(attrStatus, flow.Status)
		if got, ok := decodeFlow(again.Buf[nfnetlink.HeaderLen:]); complete(flow.Reply) && (!ok || got != flow) {
			t.Errorf("%+v is deleted as %+v (%t)", flow, got, ok)
		}
	})
}
