// SPDX-License-Identifier: Apache-2.0

package top

import (
	"net/netip"
	"sync"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

// Names names who is served at a frontend, in printable text; false: nobody is. It may be called from several goroutines.
type Names func(rules.Frontend) (name string, served bool)

// Counts counts connections since the last table. Its methods may be called from several goroutines.
type Counts struct {
	names Names

	mu       sync.Mutex
	services map[rules.Frontend]*serviceCount
	others   map[rules.Frontend]bool // no Service's, since the last table
	lost     bool
}

type serviceCount struct {
	connectionCount
	endpoints map[netip.AddrPort]*connectionCount
}

// connectionCount is what was counted of a Service or of an endpoint.
type connectionCount struct {
	fresh, open int
	bytes       uint64
}

// NewCounts returns Counts that have seen nothing.
func NewCounts(names Names) *Counts {
	return &Counts{names: names, services: map[rules.Frontend]*serviceCount{}, others: map[rules.Frontend]bool{}}
}

// Add counts a new connection.
func (c *Counts) Add(f conntrack.Flow) { c.count(f, connectionCount{fresh: 1}) }

// AddOpen counts one that is open.
func (c *Counts) AddOpen(f conntrack.Flow) { c.count(f, connectionCount{open: 1, bytes: f.Bytes}) }

func (c *Counts) count(f conntrack.Flow, n connectionCount) {
	if f.Reply.Src == f.Orig.Dst { // went where it was sent
		return
	}
	to := rules.FrontendAt(f.Orig.Dst, f.Protocol)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[to]
	if s == nil {
		if c.others[to] {
			return
		}
		if _, served := c.names(to); !served {
			c.others[to] = true
			return
		}
		s = &serviceCount{endpoints: map[netip.AddrPort]*connectionCount{}}
		c.services[to] = s
	}
	e := s.endpoints[f.Reply.Src]
	if e == nil {
		e = &connectionCount{}
		s.endpoints[f.Reply.Src] = e
	}
	for _, sum := range []*connectionCount{&s.connectionCount, e} {
		sum.fresh, sum.open, sum.bytes = sum.fresh+n.fresh, sum.open+n.open, sum.bytes+n.bytes
	}
}

// Lose says that there were more connections than could be counted.
func (c *Counts) Lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
}

// Take returns what was counted in the last seconds, without Services that are gone, and begins anew.
func (c *Counts) Take(seconds float64) Table {
	c.mu.Lock()
	services := c.services
	out := Table{Seconds: seconds, Services: []Row{}, Lost: c.lost}
	c.services, c.others, c.lost = map[rules.Frontend]*serviceCount{}, map[rules.Frontend]bool{}, false
	c.mu.Unlock()
	for at, s := range services {
		name, served := c.names(at)
		if !served {
			continue
		}
		r := newRow(name, at.String(), s.connectionCount, seconds)
		for e, n := range s.endpoints {
			r.Endpoints = append(r.Endpoints, newRow("", e.String(), *n, seconds))
		}
		sortRows(r.Endpoints, "new")
		out.Services = append(out.Services, r)
	}
	return out
}

func newRow(service, address string, n connectionCount, seconds float64) Row {
	return Row{Service: service, Address: address, New: n.fresh, Rate: float64(n.fresh) / seconds, Open: n.open, Bytes: n.bytes}
}
