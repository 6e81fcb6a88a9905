// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// podNames are the short names of pods, by their addresses.
type podNames map[netip.Addr]string

// namesOf returns short names of the pods that are backends: p1, p2, ...
func namesOf(c *netns.Cluster) podNames {
	names := podNames{}
	for i, h := range slices.Concat(c.Local, c.RemotePods) {
		name := fmt.Sprintf("p%d", i+1)
		names[h.V4], names[h.V6] = name, name
	}
	return names
}

// table writes rows and counts what they say. Colours are in the last column only,
// where they do not disturb the alignment.
func (d *demo) table(rows []row) {
	w := tabwriter.NewWriter(d.screen, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tPROTO\tADDRESS\tFROM\tCONNS\tHITS\tVERDICT")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.service, r.protocol, r.address,
			strings.Join(r.from, " "), r.connections, d.names.hits(r), d.screen.mark(d.names.named(r.verdict, r.target), r.ok))
		d.connections += r.connections
		d.tally(r.ok)
	}
	_ = w.Flush() // fails as the screen does, which SIGPIPE tells of
}

// hits returns who answered how often, backends that did not answer included.
func (n podNames) hits(r row) string {
	all := slices.SortedFunc(maps.Keys(r.hits), netip.AddrPort.Compare)
	var parts []string
	for _, b := range append(slices.Clone(r.backends), slices.DeleteFunc(all, r.isBackend)...) {
		parts = append(parts, fmt.Sprintf("%s:%d", n.pod(b), r.hits[b]))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}

func (t target) isBackend(b netip.AddrPort) bool { return slices.Contains(t.backends, b) }

// pod returns a backend's short name, or its address if it is none of the pods.
func (n podNames) pod(b netip.AddrPort) string {
	if name := n[b.Addr()]; name != "" {
		return name
	}
	return b.Addr().String()
}

// named puts short names in place of the backends' addresses.
func (n podNames) named(text string, t target) string {
	for _, b := range t.backends {
		text = strings.ReplaceAll(text, b.String(), n.pod(b))
	}
	return text
}
