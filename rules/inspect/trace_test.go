// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/nfnetlink/nfnetlinktest"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// patience is how long a test waits for what must happen at once.
var patience = netns.Patience()

// startTrace begins to trace in the namespace. Where the kernel cannot do that, the test is skipped.
func (h host) startTrace(t *testing.T, filter wire.TraceFilter) (trace *Trace, err error) {
	t.Helper()
	err = h.ns.Do(func() (err error) { trace, err = StartTrace(filter); return err })
	if errors.Is(err, unix.EINVAL) {
		t.Skip(err) // before Linux 5.12
	}
	return trace, err
}

// send sends a datagram from a new port, and returns that.
func (h host) send(to netip.AddrPort) (from netip.AddrPort, err error) {
	err = h.ns.Do(func() error {
		c, failed := net.Dial("udp", to.String())
		if failed != nil {
			return failed
		}
		defer func() { _ = c.Close() }()
		from = c.LocalAddr().(*net.UDPAddr).AddrPort()
		_, failed = c.Write([]byte("x"))
		return failed
	})
	return from, err
}

// events traces until an event is as it should be, and returns all up to that one.
func events(t *testing.T, trace *Trace, enough func(wire.TraceEvent) bool) (all []wire.TraceEvent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found := false
	err := trace.Next(ctx, func(e wire.TraceEvent) {
		all = append(all, e)
		if enough(e) {
			found = true
			cancel()
		}
	}, func() {}, func() {})
	if err != nil || !found {
		t.Fatalf("the event did not come (%v); others: %+v", err, all)
	}
	return all
}

// TestTrace: packets that are chosen tell which of our chains they meet, and others nothing.
func TestTrace(t *testing.T) {
	h := newHost(t)
	h.load(t, state(rules.Config{}, 0))
	for _, f := range rules.Families {
		loopback := netip.MustParseAddr([]string{rules.IPv4: "127.0.0.1", rules.IPv6: "::1"}[f])
		for _, tt := range []struct {
			name   string
			filter wire.TraceFilter
		}{
			{"by all", wire.TraceFilter{From: netip.PrefixFrom(loopback, loopback.BitLen()), To: netip.PrefixFrom(loopback, loopback.BitLen()), ToPort: 7, Protocol: rules.UDP}},
			{"by address and port", wire.TraceFilter{To: netip.PrefixFrom(loopback, loopback.BitLen()), ToPort: 7}},
			{"by port of any protocol", wire.TraceFilter{ToPort: 7}},
		} {
			t.Run(f.String()+" "+tt.name, func(t *testing.T) {
				trace, err := h.startTrace(t, tt.filter)
				if err != nil {
					t.Fatal(err)
				}
				if _, err = h.send(netip.AddrPortFrom(loopback, 8)); err != nil {
					t.Fatal(err)
				}
				to := netip.AddrPortFrom(loopback, 7)
				from, err := h.send(to)
				if err != nil {
					t.Fatal(err)
				}
				id := uint32(0)
				for _, e := range events(t, trace, func(e wire.TraceEvent) bool {
					if e.Dst == to && e.Src == from && e.Protocol == rules.UDP {
						id = e.ID
					}
					return e.ID == id && e.Table == rules.DefaultTable && e.Chain == "output"
				}) {
					if e.Dst.IsValid() && e.Dst != to || e.Dropped {
						t.Errorf("event %+v of another packet", e)
					}
				}
				if err := trace.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestTraceDropped: the event of a rule that drops says so.
func TestTraceDropped(t *testing.T) {
	h := newHost(t)
	h.nft(t, "table ip theirs {\n chain out {\n type filter hook output priority 0\n udp dport 7 drop\n }\n}\n")
	trace, err := h.startTrace(t, wire.TraceFilter{ToPort: 7, Protocol: rules.UDP})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = trace.Close() }()
	if _, err := h.send(netip.MustParseAddrPort("127.0.0.1:7")); !errors.Is(err, unix.EPERM) {
		t.Fatalf("the packet was not dropped: %v", err)
	}
	events(t, trace, func(e wire.TraceEvent) bool { return e.Dropped && e.Table == "theirs" && e.Chain == "out" })
}

// TestTraceUnanswered: without all of the kernel's answer nobody knows that there is a trace.
func TestTraceUnanswered(t *testing.T) {
	for _, tt := range []struct {
		what   string
		room   int
		answer error
		ok     bool
	}{
		{"acknowledged", math.MaxInt, nil, true},
		{"refused", math.MaxInt, unix.EPERM, false},
		{"acknowledgement lost", 0, nil, false},
		{"refusal lost", 0, unix.EPERM, false},
	} {
		double, sock := nfnetlinktest.New(func(nfnetlink.Message) nfnetlinktest.Answer { return nfnetlinktest.Answer{Err: tt.answer} })
		double.Room(tt.room)
		trace := &Trace{sock: sock}
		if err := trace.mark(wire.TraceFilter{}); (err == nil) != tt.ok || tt.room > 0 && !errors.Is(err, tt.answer) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}

// TestTraceTable: there is one trace at a time, and its table goes with it.
func TestTraceTable(t *testing.T) {
	h := newHost(t)
	traced := func() bool {
		t.Helper()
		chains, err := h.BaseChains()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(chains, func(c BaseChain) bool { return c.Table == wire.TraceTable })
	}
	trace, err := h.startTrace(t, wire.TraceFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if !traced() {
		t.Error("there is no table")
	}
	if second, err := h.startTrace(t, wire.TraceFilter{}); !errors.Is(err, unix.EPERM) {
		t.Errorf("a second trace: %v (%v), want EPERM", second, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trace.Next(ctx, func(wire.TraceEvent) {}, func() {}, func() {}); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if err := trace.Close(); err != nil {
		t.Error(err)
	}
	if traced() {
		t.Error("the table stays")
	}
}
