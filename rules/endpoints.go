// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
)

// Usable returns the endpoints that get new connections, sorted by address and
// without doubles: the ready ones; where there are none, those that are
// terminating and still serving (KEP-1669).
func Usable(endpoints []Endpoint) []Endpoint {
	usable := pick(endpoints, func(e Endpoint) bool { return e.Ready })
	if len(usable) == 0 {
		usable = pick(endpoints, func(e Endpoint) bool { return e.Serving && e.Terminating })
	}
	slices.SortFunc(usable, func(a, b Endpoint) int { return a.Addr.Compare(b.Addr) })
	return merge(usable)
}

// merge drops the second of two equal addresses in a row. The endpoint is local
// if one of them is: only one of the EndpointSlices may say where it is.
func merge(sorted []Endpoint) []Endpoint {
	n := 0
	for _, e := range sorted {
		if n > 0 && sorted[n-1].Addr == e.Addr {
			sorted[n-1].Local = sorted[n-1].Local || e.Local
			continue
		}
		sorted[n] = e
		n++
	}
	return sorted[:n]
}

func pick(endpoints []Endpoint, want func(Endpoint) bool) []Endpoint {
	var out []Endpoint
	for _, e := range endpoints {
		if want(e) {
			out = append(out, e)
		}
	}
	return out
}
