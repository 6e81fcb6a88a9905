// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"fmt"
	"testing"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// TestCountOpen: what is translated to a backend counts, in both families, and of each protocol by itself.
func TestCountOpen(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()...)
	inject(t, c, 7, from(flow(rules.UDP, "10.96.0.10:53", "10.2.0.1:5353"), 9), from(flow(rules.UDP, "10.2.0.1:5353", "10.2.0.1:5353"), 10))
	four, six := rules.Backend{Protocol: rules.UDP, Addr: ap("10.2.0.1:5353")}, rules.Backend{Protocol: rules.UDP, Addr: ap("[fd00:2::1]:5353")}
	other := rules.Backend{Protocol: rules.UDP, Addr: ap("10.2.0.2:5353")}
	for _, tt := range []struct {
		list []rules.Backend
		want string
	}{
		{[]rules.Backend{four, other}, "7 0"}, {[]rules.Backend{six}, "6"}, {[]rules.Backend{four, six, other}, "7 6 0"}, {nil, ""},
	} {
		backends := map[rules.Backend]uint32{}
		for _, b := range tt.list {
			backends[b] = 0
		}
		busy, err := c.CountOpen(t.Context(), backends)
		if err != nil || busy < 0 {
			t.Fatal(busy, err)
		}
		got := ""
		for i, b := range tt.list {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprint(backends[b])
		}
		if got != tt.want || len(backends) != len(tt.list) {
			t.Errorf("%v: %s, want %s", tt.list, got, tt.want)
		}
	}
}

// TestOpenStates: connections that are closing do not count.
func TestOpenStates(t *testing.T) {
	for proto, want := range map[rules.Protocol]string{rules.TCP: "1111000001", rules.SCTP: "1011100011", rules.UDP: "1111111111"} {
		got := ""
		for state := range uint8(10) {
			got += map[bool]string{true: "1", false: "0"}[(&Flow{Protocol: proto, State: state}).open()]
		}
		if got != want {
			t.Errorf("%s: %s, want %s", proto, got, want)
		}
	}
}

// TestDecodeState reads the state of a connection from a message.
func TestDecodeState(t *testing.T) {
	for typ, want := range map[uint16]uint8{attrInfoTCP: 3, attrInfoSCTP: 3, 2: 0} {
		m := newRequest(msgGet, 0, 0)
		info := m.Nest(attrProtoInfo)
		inner := m.Nest(typ)
		m.Bytes(attrState, 3)
		m.Close(inner)
		m.Close(info)
		m.End()
		for typ, value := range nfnetlink.Data(m.Buf[20:]).Attributes() {
			if got := decodeState(value); typ != attrProtoInfo || got != want {
				t.Errorf("state %d, want %d", got, want)
			}
		}
	}
}
