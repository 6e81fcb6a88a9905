// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

// topKeys are what Services can be sorted by.
func topKeys() []string { return []string{"new", "open", "bytes", "name"} }

// topChoice says what a table shows.
type topChoice struct {
	interval  time.Duration // that it is about
	rows      int           // Services that are shown
	sort      string        // of topKeys
	filter    string        // in names or addresses of Services; empty: all
	endpoints bool          // on lines of their own
}

// counts counts connections since the last table.
type counts struct {
	names serviceNames

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

func newCounts(names serviceNames) *counts {
	return &counts{names: names, services: map[rules.Frontend]*serviceCount{}, others: map[rules.Frontend]bool{}}
}

func (c *counts) add(f conntrack.Flow) { c.count(f, connectionCount{fresh: 1}) }

func (c *counts) addOpen(f conntrack.Flow) { c.count(f, connectionCount{open: 1, bytes: f.Bytes}) }

func (c *counts) count(f conntrack.Flow, n connectionCount) {
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
		if _, served := c.names.at(to); !served {
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

func (c *counts) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
}

// topTable is what was counted in a time. Texts are printable.
type topTable struct {
	Seconds  float64   `json:"seconds"`
	Services []topView `json:"services"`
	// More is how many Services are not shown, Lost says that there were more connections than could be counted.
	More int  `json:"more"`
	Lost bool `json:"lost"`
}

// topView is a frontend of a Service, or an endpoint.
type topView struct {
	Service string  `json:"service,omitempty"` // with the port's name
	Address string  `json:"address"`
	New     int     `json:"new"`
	Rate    float64 `json:"newPerSecond"`
	Open    int     `json:"open"`
	Bytes   uint64  `json:"bytes,omitempty"` // of the open ones, in both directions; 0: the kernel does not count them
	// Endpoints are those with connections, the one with the most new ones first.
	Endpoints []topView `json:"endpoints,omitempty"`
}

// take returns what was counted, without Services that are gone, and begins anew.
func (c *counts) take(o *topChoice) topTable {
	c.mu.Lock()
	services := c.services
	out := topTable{Seconds: o.interval.Seconds(), Services: []topView{}, Lost: c.lost}
	c.services, c.others, c.lost = map[rules.Frontend]*serviceCount{}, map[rules.Frontend]bool{}, false
	c.mu.Unlock()
	for at, s := range services {
		name, served := c.names.at(at)
		v := view(nameText(name, served), at.String(), s.connectionCount, out.Seconds)
		if !served || !strings.Contains(v.Service, o.filter) && !strings.Contains(v.Address, o.filter) {
			continue
		}
		for e, n := range s.endpoints {
			v.Endpoints = append(v.Endpoints, view("", e.String(), *n, out.Seconds))
		}
		sortViews(v.Endpoints, "new")
		out.Services = append(out.Services, v)
	}
	sortViews(out.Services, o.sort)
	if out.More = max(0, len(out.Services)-o.rows); out.More > 0 {
		out.Services = out.Services[:o.rows]
	}
	return out
}

func view(service, address string, n connectionCount, seconds float64) topView {
	return topView{Service: service, Address: address, New: n.fresh, Rate: float64(n.fresh) / seconds, Open: n.open, Bytes: n.bytes}
}

// sortViews sorts by a key of topKeys; those that are alike by their new connections, and by their names.
func sortViews(list []topView, key string) {
	slices.SortFunc(list, func(a, b topView) int {
		first := 0
		switch key {
		case "open":
			first = cmp.Compare(b.Open, a.Open)
		case "bytes":
			first = cmp.Compare(b.Bytes, a.Bytes)
		case "name":
			first = cmp.Compare(a.Service, b.Service)
		}
		return cmp.Or(first, cmp.Compare(b.New, a.New), cmp.Compare(b.Open, a.Open), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Address, b.Address))
	})
}

// text returns the table for people. The column of bytes is there where some are counted.
func (t topTable) text(unfolded bool) string {
	counted := slices.ContainsFunc(t.Services, func(v topView) bool { return v.Bytes > 0 })
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	row := func(service, address, rate, open, bytes, endpoints string) {
		if counted {
			open += "\t" + bytes
		}
		if !unfolded {
			open += "\t" + endpoints
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", service, address, rate, open)
	}
	row("SERVICE", "ADDRESS", "NEW/S", "OPEN", "BYTES", "ENDPOINTS")
	line := func(name string, v topView) {
		row(name, v.Address, fmt.Sprintf("%.1f", v.Rate), fmt.Sprint(v.Open), bytesText(v.Bytes), v.shares())
	}
	for _, s := range t.Services {
		line(s.Service, s)
		for i := range s.Endpoints {
			if unfolded {
				line("  endpoint", s.Endpoints[i])
			}
		}
	}
	_ = w.Flush() // to memory
	if t.More > 0 {
		fmt.Fprintf(&out, "and %d more\n", t.More)
	}
	if t.Lost {
		fmt.Fprintln(&out, "There were more than could be counted.")
	}
	return out.String()
}

// bytesText returns a number of bytes as 1.5Mi.
func bytesText(n uint64) string {
	const step = 1024
	if n < step {
		return fmt.Sprint(n)
	}
	f := float64(n)
	for _, unit := range []string{"Ki", "Mi", "Gi", "Ti", "Pi"} {
		if f /= step; f < step {
			return fmt.Sprintf("%.1f%s", f, unit)
		}
	}
	return fmt.Sprintf("%.1fEi", f/step)
}

// shares lists the endpoints that got most of the new connections.
func (v topView) shares() string {
	const most = 5
	var parts []string
	all := slices.DeleteFunc(slices.Clone(v.Endpoints), func(e topView) bool { return e.New == 0 })
	for _, e := range all[:min(most, len(all))] {
		parts = append(parts, fmt.Sprintf("%s %d%%", e.Address, (100*e.New+v.New/2)/v.New))
	}
	if more := len(all) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}
