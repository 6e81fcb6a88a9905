// SPDX-License-Identifier: Apache-2.0

package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// Keys are what Services can be sorted by.
func Keys() []string { return []string{"new", "open", "bytes", "name"} }

// Choice says what is shown of a table.
type Choice struct {
	Rows      int    // Services that are shown; 0: all
	Sort      string // of Keys
	Filter    string // in names or addresses of Services; empty: all
	Endpoints bool   // on lines of their own
}

// Table is what was counted in a time. Texts are printable.
type Table struct {
	Seconds  float64 `json:"seconds"`
	Services []Row   `json:"services"`
	// More is how many Services are not shown, Lost says that there were more connections than could be counted.
	More int  `json:"more"`
	Lost bool `json:"lost"`
}

// Row is a frontend of a Service, or an endpoint.
type Row struct {
	Service string  `json:"service,omitempty"` // with the port's name
	Address string  `json:"address"`
	New     int     `json:"new"`
	Rate    float64 `json:"newPerSecond"`
	Open    int     `json:"open"`
	Bytes   uint64  `json:"bytes,omitempty"` // of the open ones, in both directions; 0: the kernel does not count them
	// Endpoints are those with connections, the one with the most new ones first.
	Endpoints []Row `json:"endpoints,omitempty"`
}

// Choose returns what is shown, in its order.
func (t Table) Choose(o *Choice) Table {
	all := t.Services
	t.Services = make([]Row, 0, len(all))
	for i := range all {
		if strings.Contains(all[i].Service, o.Filter) || strings.Contains(all[i].Address, o.Filter) {
			t.Services = append(t.Services, all[i])
		}
	}
	sortRows(t.Services, o.Sort)
	if more := len(t.Services) - o.Rows; o.Rows > 0 && more > 0 {
		t.Services, t.More = t.Services[:o.Rows], more
	}
	return t
}

// sortRows sorts by one of Keys; those that are alike by their new connections, and by their names.
func sortRows(list []Row, key string) {
	slices.SortFunc(list, func(a, b Row) int {
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

// counted says whether the kernel counts bytes.
func (t Table) counted() bool {
	return slices.ContainsFunc(t.Services, func(r Row) bool { return r.Bytes > 0 })
}

// Text returns the table for people, with endpoints on lines of their own or not. The column of bytes is there where some are
// counted.
func (t Table) Text(unfolded bool) string {
	counted := t.counted()
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
	line := func(name string, r *Row) {
		row(name, r.Address, rateText(r.Rate), fmt.Sprint(r.Open), BytesText(r.Bytes), r.shares())
	}
	for i := range t.Services {
		s := &t.Services[i]
		line(s.Service, s)
		for j := range s.Endpoints {
			if unfolded {
				line("  endpoint", &s.Endpoints[j])
			}
		}
	}
	_ = w.Flush() // to memory
	if t.More > 0 {
		fmt.Fprintf(&out, "and %d more\n", t.More)
	}
	if t.Lost {
		fmt.Fprintln(&out, lostText)
	}
	return out.String()
}

const lostText = "There were more than could be counted."

func rateText(rate float64) string { return fmt.Sprintf("%.1f", rate) }

// BytesText returns a number of bytes as 1.5Mi.
func BytesText(n uint64) string {
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
func (r *Row) shares() string {
	const most = 5
	var parts []string
	all := slices.DeleteFunc(slices.Clone(r.Endpoints), func(e Row) bool { return e.New == 0 })
	for _, e := range all[:min(most, len(all))] {
		parts = append(parts, fmt.Sprintf("%s %d%%", e.Address, (100*e.New+r.New/2)/r.New))
	}
	if more := len(all) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}
