// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// openFor opens a new network namespace where there is such a way to look for flows.
func openFor(t *testing.T, way look) *Conn {
	t.Helper()
	c := open(t)
	if way == lookListed && c.listing == nil {
		if _, err := os.Stat(listingPath); err == nil && !olderThan(t, 6, 15) {
			t.Error("the kernel's text is not used")
		}
		t.Skip("needs Linux 6.15 with CONFIG_NF_CONNTRACK_PROCFS")
	}
	return c
}

// TestListing: the kernel's text has the flows that a dump has, but for TCP's that are answered.
func TestListing(t *testing.T) {
	c := openFor(t, lookListed)
	stale, good := zoned()
	inject(t, c, 0, slices.Concat(table(), stale, good)...)
	for range 2 { // it is read from its beginning each time
		got, err := c.readListing(func(Flow) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		wantFlows(t, "the kernel's text", got, selected(everything(t, c), func(f Flow) bool {
			return f.Protocol != rules.TCP || f.Status&StatusSeenReply == 0
		}))
	}
}

// TestLook: a small table is looked through in the kernel's text, an empty one not at all.
func TestLook(t *testing.T) {
	c := openFor(t, lookListed)
	targets := []Target{{Frontend: front(rules.UDP, "10.96.0.1:53")}}
	if got := c.look(t.Context(), targets); got != lookNone {
		t.Errorf("an empty table: %d", got)
	}
	inject(t, c, 0, crowd(listingMost)...)
	if got := c.look(t.Context(), targets); got != lookListed {
		t.Errorf("a small table: %d", got)
	}
	inject(t, c, 0, crowd(listingMost + 1)[listingMost:]...)
	if got := c.look(t.Context(), targets); got != lookFiltered {
		t.Errorf("a larger table: %d", got)
	}
	c.listing = nil
	if got := c.look(t.Context(), []Target{targets[0], {Frontend: front(rules.TCP, "10.96.0.1:53")}}); got != lookFiltered {
		t.Errorf("without the text: %d", got)
	}
}

// TestCleanWithoutText: where the text cannot be read, the table is dumped.
func TestCleanWithoutText(t *testing.T) {
	c := openFor(t, lookListed)
	inject(t, c, 0, table()...)
	if err := c.listing.Close(); err != nil {
		t.Fatal(err)
	}
	n, err := c.Clean(t.Context(), []Target{{Frontend: front(rules.UDP, "10.96.0.10:53")}}, nil)
	if err != nil || n.V4 != 2 {
		t.Errorf("deleted %+v, want 2: %v", n, err)
	}
}

// TestParseFlow: lines of other kernels and settings.
func TestParseFlow(t *testing.T) {
	const orig, reply = "src=10.1.0.1 dst=10.96.0.1 sport=999 dport=53 ", "src=10.2.0.1 dst=10.1.0.1 sport=5353 dport=999 "
	for line, want := range map[string]string{
		"ipv4     2 udp      17 29 " + orig + "[UNREPLIED] " + reply + "mark=0 zone=0 use=2":                                                                   "udp 10.1.0.1:999 -> 10.96.0.1:53 (answered by 10.2.0.1:5353)",
		"ipv4     2 udp      17 29 " + orig + "packets=1 bytes=60 " + reply + "packets=1 bytes=60 [ASSURED] mark=0 secctx=null zone=7 delta-time=1 use=2":      "udp 10.1.0.1:999 -> 10.96.0.1:53 (answered by 10.2.0.1:5353) in zone 7, answered",
		"ipv4     2 sctp     132 9 COOKIE_WAIT " + orig + "zone-orig=3 " + reply + "use=2":                                                                     "sctp 10.1.0.1:999 -> 10.96.0.1:53 (answered by 10.2.0.1:5353) in zones 3 and 0, answered",
		"ipv4     2 tcp      6 119 SYN_SENT " + orig + "[UNREPLIED] " + reply + "zone-reply=4 use=1":                                                           "tcp 10.1.0.1:999 -> 10.96.0.1:53 (answered by 10.2.0.1:5353) in zones 0 and 4",
		"ipv4     2 tcp      6 119 ESTABLISHED " + orig + reply + "[ASSURED] use=1":                                                                            "none",
		"ipv4     2 icmp     1 29 src=10.1.0.1 dst=10.2.0.1 type=8 code=0 id=7 src=10.2.0.1 dst=10.1.0.1 type=0 code=0 id=7 use=1":                             "none",
		"ipv6     10 udp      17 29 src=fd00:0001:0000:0000:0000:0000:0000:0001 dst=fd00::2 sport=1 dport=2 src=fd00::3 dst=fd00::4 sport=3 dport=4 [OFFLOAD]": "udp [fd00:1::1]:1 -> [fd00::2]:2 (answered by [fd00::3]:3), answered",
		"": "error", "ipv4 2 udp 17 29": "error", "ipv4 2 udp x": "error",
		"ipv4 2 udp 17 29 " + orig + orig + orig: "error", "ipv4 2 udp 17 29 " + orig + "src=x dst=y sport=1 dport=2": "error",
		"ipv4 2 udp 17 29 " + orig + "src=10.1.0.1 dst=10.1.0.2 sport=70000 dport=2": "error",
	} {
		f, ok, err := parseFlow([]byte(line))
		got := "none"
		switch {
		case err != nil:
			got = "error"
		case ok:
			got = f.String()
			if f.Status&StatusSeenReply != 0 {
				got += ", answered"
			}
		}
		if got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", line, got, want)
		}
	}
	if _, _, err := parseFlow([]byte("ipv4 2 udp 17 1 " + strings.Repeat("sport=1 ", 9))); err == nil {
		t.Error("nine ports are not an error")
	}
}
