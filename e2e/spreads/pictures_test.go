// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

var pictures = flag.String("pictures", "", "`directory` for pictures of what the kernel does with each scheduler; empty: none are made")

func needPictures(t *testing.T) {
	t.Helper()
	if *pictures == "" {
		t.Skip("makes a picture: give -pictures DIRECTORY")
	}
}

// TestDrawShares draws how 10,000 connections are spread over endpoints of the weights 1 to 4.
func TestDrawShares(t *testing.T) {
	needPictures(t)
	weights := []uint32{1, 2, 3, 4}
	p := newPicture(760, 270, "10,000 connections over endpoints of the weights 1, 2, 3 and 4; a line is the exact share")
	for i, s := range rules.Schedulers() {
		n := newNode(t, "node")
		sp, list := servicePort("web", s, rules.UDP, rules.IPv4), endpoints(rules.IPv4, weights...)
		n.update(sp, list)
		sources := flows(rules.IPv4)
		if s == rules.ClientHash {
			for j := range sources {
				sources[j] = client(rules.IPv4, j)
			}
		}
		count := map[netip.AddrPort]int{}
		for _, a := range n.connect(&sp, sources) {
			count[a]++
		}
		left := 15 + 125*float64(i)
		for j, w := range weights {
			x, got, want := left+27*float64(j), float64(count[list[j].Addr])/25, float64(w)*40
			p.rect(x, 230-got, 22, got, colours[j])
			p.line([][2]float64{{x - 2, 230 - want}, {x + 24, 230 - want}}, grey, 2)
			p.text(x+11, 225-max(got, want), "middle", 9, fmt.Sprint(count[list[j].Addr]))
		}
		p.text(left+50, 250, "middle", 12, s.String())
	}
	if err := p.write(*pictures, "shares.svg"); err != nil {
		t.Fatal(err)
	}
}

// TestDrawOrder draws the order of connections with weights.
func TestDrawOrder(t *testing.T) {
	needPictures(t)
	p := newPicture(760, 250, "The first 60 connections to endpoints of the weights 5, 3 and 1, in their order")
	for i, s := range []rules.Scheduler{rules.RoundRobin, rules.Random, rules.SourceHash} {
		n := newNode(t, "node")
		sp, list := servicePort("web", s, rules.UDP, rules.IPv4), endpoints(rules.IPv4, 5, 3, 1)
		n.update(sp, list)
		top := 45 + 70*float64(i)
		p.text(10, top+22, "start", 12, s.String())
		for j, a := range n.connect(&sp, flows(rules.IPv4)[:60]) {
			at := slices.IndexFunc(list, func(e rules.Endpoint) bool { return e.Addr == a })
			p.circle(125+10.4*float64(j), top+18*float64(at), 4, colours[at])
		}
	}
	if err := p.write(*pictures, "order.svg"); err != nil {
		t.Fatal(err)
	}
}

// TestDrawMoved draws how many flows to other endpoints move when one of 100 leaves.
func TestDrawMoved(t *testing.T) {
	needPictures(t)
	rows := []struct {
		name string
		s    rules.Scheduler
		size uint16
	}{{"source-hash", rules.SourceHash, 0}, {"maglev 251", rules.Maglev, 251}, {"maglev 1021", rules.Maglev, 1021}, {"maglev 4093", rules.Maglev, 4093},
		{"maglev 16381", rules.Maglev, 16381}, {"maglev 32749", rules.Maglev, 32749}, {"maglev 65521", rules.Maglev, 65521}}
	p := newPicture(760, 40+26*len(rows), "Flows to the other 99 endpoints that move when one of 100 leaves, of 10,000")
	for i, r := range rows {
		part, y := moved(t, r.s, r.size), 36+26*float64(i)
		p.text(105, y+14, "end", 12, r.name)
		p.rect(112, y, max(550*part, 1), 18, colours[min(i, 1)])
		p.text(118+550*part, y+14, "start", 12, fmt.Sprintf("%.2f %%", 100*part))
	}
	if err := p.write(*pictures, "moved.svg"); err != nil {
		t.Fatal(err)
	}
}

// TestDrawOpen draws the open connections of ten endpoints during a rolling update and after: TCP connections that are really open, and counted by
// the kernel. Only the clock is not real: a step is a second.
func TestDrawOpen(t *testing.T) {
	needPictures(t)
	p := newPicture(760, 300, "1,000 connections, 10 endpoints replaced in turn, 50 clients a second: most and fewest open, by second")
	for v := 0; v <= 200; v += 50 {
		y := 260 - float64(v)
		p.line([][2]float64{{50, y}, {745, y}}, "#80808040", 1)
		p.text(44, y+4, "end", 10, fmt.Sprint(v))
	}
	for i, s := range []rules.Scheduler{rules.RoundRobin, rules.Random, rules.LeastConnections} {
		most, fewest := [][2]float64{}, [][2]float64{}
		seconds := rollingUpdate(t, s)
		for second, open := range seconds {
			x := 50 + 20*float64(second)
			most, fewest = append(most, [2]float64{x, 260 - float64(slices.Max(open))}), append(fewest, [2]float64{x, 260 - float64(slices.Min(open))})
		}
		p.line(most, colours[i], 2.5)
		p.line(fewest, colours[i], 2.5)
		last := seconds[len(seconds)-1]
		p.rect(60+225*float64(i), 278, 12, 12, colours[i])
		p.text(78+225*float64(i), 289, "start", 12, fmt.Sprintf("%s: %d to %d", s, slices.Min(last), slices.Max(last)))
	}
	if err := p.write(*pictures, "open.svg"); err != nil {
		t.Fatal(err)
	}
}

// held is a connection that is open.
type held struct{ client, server net.Conn }

// rollingUpdate returns how many connections each endpoint has after each second.
func rollingUpdate(t *testing.T, s rules.Scheduler) (seconds [][]uint32) {
	n := newNode(t, "node")
	sp, list := servicePort("web", s, rules.TCP, rules.IPv4), endpoints(rules.IPv4, slices.Repeat([]uint32{1}, 10)...)
	var table *conntrack.Conn
	n.must(n.ns.Do(func() (err error) {
		table, err = conntrack.Open()
		return err
	}))
	defer table.Close()
	open := map[netip.AddrPort][]held{}
	next := 0
	dial := func(at string) {
		n.must(n.ns.Do(func() error {
			c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(flow(rules.IPv4, next)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at)))
			if err != nil {
				return err
			}
			next++
			there, err := n.tcp[rules.IPv4].AcceptTCP()
			if err != nil {
				return err
			}
			_, _ = c.SetLinger(0), there.SetLinger(0)
			to := there.LocalAddr().(*net.TCPAddr).AddrPort()
			to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
			open[to] = append(open[to], held{c, there})
			return nil
		}))
	}
	n.update(sp, list)
	for range 1000 { // in turn, whatever comes afterwards
		at := list[next%10].Addr
		single := sp
		single.Scheduler = rules.RoundRobin
		n.update(single, []rules.Endpoint{{Addr: at, Ready: true}})
		dial("10.96.0.10:80")
	}
	waiting := 0
	for second, rest := 0, 10; rest > 0; second++ {
		if second < 10 {
			at := list[second].Addr
			for _, h := range open[at] {
				_, _ = h.client.Close(), h.server.Close()
				waiting++
			}
			delete(open, at)
		}
		backends := map[rules.Backend]uint32{}
		for i := range list {
			backends[rules.Backend{Protocol: rules.TCP, Addr: list[i].Addr}] = 0
		}
		_, err := table.CountOpen(t.Context(), backends)
		n.must(err)
		for i := range list {
			list[i].Open = backends[rules.Backend{Protocol: rules.TCP, Addr: list[i].Addr}]
		}
		n.update(sp, list)
		for range min(50, waiting) {
			dial("10.96.0.10:80")
			waiting--
		}
		if waiting == 0 && second >= 10 {
			rest--
		}
		var counts []uint32
		for i := range list {
			counts = append(counts, uint32(len(open[list[i].Addr])))
		}
		seconds = append(seconds, counts)
	}
	for _, all := range open {
		for _, h := range all {
			_, _ = h.client.Close(), h.server.Close()
		}
	}
	return seconds
}

// TestFewestOpen: after a rolling update the open connections of the endpoints are at most a fifth apart, as the kernel counts them.
func TestFewestOpen(t *testing.T) {
	seconds := rollingUpdate(t, rules.LeastConnections)
	last := seconds[len(seconds)-1]
	if slices.Max(last)-slices.Min(last) > 20 {
		t.Errorf("open connections after the update: %v, want at most 20 apart", last)
	}
}
