// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
)

// summary writes the table that a README shows.
func summary(r *Results) string {
	out := &strings.Builder{}
	fmt.Fprintf(out, "| | Services | %s |\n", strings.Join(Peers(), " | "))
	fmt.Fprintf(out, "|---|---:|%s\n", strings.Repeat("---:|", len(Peers())))
	for _, h := range headlines() {
		if size, cells := r.headlineRow(h); size != 0 {
			fmt.Fprintf(out, "| %s | %s | %s |\n", h.title, count(size), strings.Join(cells, " | "))
		}
	}
	if rows := r.failoverRows(); len(rows) > 0 {
		fmt.Fprintf(out, "\n| | %s | %s |\n|---|---:|---:|\n", Nftproxy, Failover)
		for _, row := range rows {
			fmt.Fprintf(out, "| %s, %s | %s |\n", row.Title, row.Size, strings.Join(row.Cells, " | "))
		}
	}
	fmt.Fprintf(out, "\n×: how often nftproxy's figure. ¹: as a part of the same on a node without rules, ²: on one with one rule, `dnat to` one address, measured in turn with it, and where the middle half of the turns is; no figure where that is wider than a quarter of it. No difference is seen where two of these ranges have something in common. Measured %s in one run, on %s.\n", r.Began.Format("2006-01-02"), r.Machine.words())
	return out.String()
}

// words names the machine and what ran on it.
func (m Machine) words() string {
	return fmt.Sprintf("%d cores (%s), Linux %s, %s, kube-proxy %s", m.Cores, m.CPU, m.Kernel, m.Commit, m.Kubernetes)
}
