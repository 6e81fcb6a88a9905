// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/conntrack"
)

// BenchmarkChangeCPU is the CPU time of one change after another, and of many in each second, with all that follows them: most of it
// are walks of connection tracking, whose hash table is the machine's (net.netfilter.nf_conntrack_buckets). entries are in the table of
// the node.
func BenchmarkChangeCPU(b *testing.B) {
	s := size{1000, 10}
	for _, entries := range []int{500, 5000} {
		n := newNode(b)
		err := n.ns.Do(func() (err error) { n.flows, err = conntrack.Open(); return err })
		if err != nil {
			b.Fatal(err)
		}
		n.load(s)
		for _, row := range []struct {
			name    string
			pause   time.Duration
			changes int
		}{{"one after another", 1100 * time.Millisecond, 10}, {"333 a second", time.Second / 333, 3330}} {
			b.Run(fmt.Sprintf("entries=%d/%s", entries, row.name), func(b *testing.B) {
				for b.Loop() {
					n.track(entries)
					before, began := usedCPU(b), time.Now()
					for i := range row.changes {
						n.replaceEndpoint(i%s.services, s, i/s.services%2 == 1)
						n.quiet()
						time.Sleep(time.Until(began.Add(time.Duration(i+1) * row.pause)))
					}
					n.quiet()
					time.Sleep(5 * time.Second) // for second looks
					used := usedCPU(b) - before
					b.ReportMetric(float64(used.Microseconds())/1000/float64(row.changes), "cpu-ms/change")
					b.ReportMetric(100*used.Seconds()/time.Since(began).Seconds(), "cpu-%")
					for i := range min(row.changes, s.services) {
						n.replaceEndpoint(i, s, true)
					}
					time.Sleep(5 * time.Second)
					n.quiet()
				}
			})
		}
		n.close()
		_ = n.flows.Close()
	}
}

// track has the node track so many flows, for half a minute.
func (n *node) track(entries int) {
	n.b.Helper()
	err := n.ns.Do(func() error {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		for i := range entries {
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(1 + i>>8), byte(i)}), 9)
			if _, err := conn.WriteToUDPAddrPort([]byte("x"), to); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		n.b.Fatal(err)
	}
	u, err := n.flows.Usage(n.b.Context())
	if err != nil || int(u.Entries) < entries {
		n.b.Fatalf("%d flows are tracked, want %d: %v", u.Entries, entries, err)
	}
}

func usedCPU(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
