// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// listingPath is the kernel's text of all entries (CONFIG_NF_CONNTRACK_PROCFS) of the calling thread's network namespace. To find
// entries for it the kernel takes no locks: an empty table of 262,144 buckets costs 0.3 ms where a dump costs 10.
const listingPath = "/proc/thread-self/net/nf_conntrack"

// listingMost is the number of entries up to which the text costs less than a dump: the kernel writes one in some 2 us.
const listingMost = 2000

// openListing opens the text; nil: there is none, or it is of no use. Kernels before 6.15 begin anew at each read, with as many entries
// left out as were read: where one has gone meanwhile, another one is missed.
func openListing() *os.File {
	var name unix.Utsname
	var major, minor int
	if unix.Uname(&name) != nil {
		return nil
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil || major < 6 || major == 6 && minor < 15 {
		return nil
	}
	f, err := os.Open(listingPath)
	if err != nil {
		return nil
	}
	return f
}

// listed returns the flows in the text for which stale says so, as a dump has them. Those that have changed meanwhile are left out.
func (c *Conn) listed(ctx context.Context, stale func(Flow) bool) ([]Flow, error) {
	found, err := c.readListing(stale)
	if err != nil {
		return nil, err
	}
	var out []Flow
	for _, f := range found {
		flow, ok, err := c.get(ctx, f)
		if err != nil {
			return nil, err
		}
		if ok && stale(flow) {
			out = append(out, flow)
		}
	}
	return out, nil
}

func (c *Conn) readListing(keep func(Flow) bool) ([]Flow, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.listing.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read conntrack entries: %w", err)
	}
	var out []Flow
	lines := bufio.NewScanner(c.listing)
	for lines.Scan() {
		f, ok, err := parseFlow(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("read conntrack entry %q: %w", lines.Text(), err)
		}
		if ok && keep(f) {
			out = append(out, f)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read conntrack entries: %w", err)
	}
	return out, nil
}

var errEntry = errors.New("not the two tuples of a flow")

// parseFlow reads a line of the text: the flow's tuples and zones, and whether it was answered. It returns false for what Clean
// has nothing to do with: other protocols, and answered connections of TCP.
func parseFlow(line []byte) (f Flow, ok bool, err error) {
	var addrs [4]netip.Addr // of the source and the destination, in both directions
	var ports [4]uint16
	nAddrs, nPorts, n := 0, 0, 0
	f.Status = StatusSeenReply
	for word := range bytes.FieldsSeq(line) {
		if n++; n == 4 { // ipv4 2 udp 17
			proto, perr := strconv.ParseUint(string(word), 10, 8)
			f.Protocol = rules.Protocol(proto)
			if perr != nil || f.Protocol != rules.UDP && f.Protocol != rules.TCP && f.Protocol != rules.SCTP {
				return f, false, perr
			}
			if f.Protocol == rules.TCP && !bytes.Contains(line, []byte("[UNREPLIED]")) {
				return f, false, nil
			}
		}
		key, value, _ := bytes.Cut(word, []byte("="))
		switch string(key) {
		case "src", "dst":
			if nAddrs == len(addrs) {
				return f, false, errEntry
			}
			addrs[nAddrs], err = netip.ParseAddr(string(value))
			nAddrs++
		case "sport", "dport":
			if nPorts == len(ports) {
				return f, false, errEntry
			}
			ports[nPorts], err = parseU16(value)
			nPorts++
		case "zone":
			f.Zones.Orig, err = parseU16(value)
			f.Zones.Reply = f.Zones.Orig
		case "zone-orig":
			f.Zones.Orig, err = parseU16(value)
		case "zone-reply":
			f.Zones.Reply, err = parseU16(value)
		case "[UNREPLIED]":
			f.Status = 0
		}
		if err != nil {
			return f, false, err
		}
	}
	if nAddrs != len(addrs) || nPorts != len(ports) {
		return f, false, errEntry
	}
	f.Orig = Tuple{netip.AddrPortFrom(addrs[0], ports[0]), netip.AddrPortFrom(addrs[1], ports[1])}
	f.Reply = Tuple{netip.AddrPortFrom(addrs[2], ports[2]), netip.AddrPortFrom(addrs[3], ports[3])}
	return f, true, nil
}

func parseU16(text []byte) (uint16, error) {
	n, err := strconv.ParseUint(string(text), 10, 16)
	return uint16(n), err
}
