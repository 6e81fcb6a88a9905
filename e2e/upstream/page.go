// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"slices"
	"strings"
)

// Run says what was run.
type Run struct {
	Kubernetes, Kernel, Nftproxy, Date string
	Columns                            []Column
}

// Column is a proxy with a family that comes first, and what became of the specs.
type Column struct {
	Name    string // such as nftproxy
	Results Results
}

// outcomes are the columns of the table of counts.
var outcomes = [...]Outcome{Passed, Later, Failed, Skipped, NotRun}

// Page returns the text of docs/conformance.md.
func Page(list []Spec, r Run) string {
	chosen := slices.DeleteFunc(slices.Clone(list), func(s Spec) bool { return s.Cluster == None })
	var b strings.Builder
	fmt.Fprintf(&b, "# Kubernetes' own tests\n\nUpstream's sig-network e2e specs, on clusters in network namespaces whose only Service proxy is nftproxy, or real\nkube-proxy (nftables mode). `make e2e-upstream` runs them and writes this page.\n\n")
	fmt.Fprintf(&b, "Kubernetes %s, Linux %s, nftproxy %s, %s.\n\n", r.Kubernetes, r.Kernel, r.Nftproxy, r.Date)
	fmt.Fprintf(&b, "Of %d specs %d are chosen, %d of them for [conformance](https://github.com/cncf/k8s-conformance). The others are listed\nbelow, each with the reason. A spec that failed was run once more, alone. The load balancer before the nodes has IPv4\naddresses, so its specs are not run where IPv6 comes first.\n\n", len(list), len(chosen), conformance(chosen))
	b.WriteString("| proxy |")
	for _, o := range outcomes {
		b.WriteString(" " + string(o) + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(outcomes)) + "\n")
	for _, c := range r.Columns {
		fmt.Fprintf(&b, "| %s |", c.Name)
		for _, o := range outcomes {
			fmt.Fprintf(&b, " %d |", c.Results.count(chosen, o))
		}
		b.WriteString("\n")
	}
	sep := "\n"
	for _, s := range chosen {
		if s.Reason != "" {
			fmt.Fprintf(&b, "%s- %s: %s.\n", sep, cell(s.Text), cell(s.Reason))
			sep = ""
		}
	}
	b.WriteString("\n## Specs\n\n| spec |")
	for _, c := range r.Columns {
		b.WriteString(" " + c.Name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(r.Columns)) + "\n")
	for _, s := range chosen {
		b.WriteString("| " + cell(s.Text) + " |")
		for _, c := range r.Columns {
			b.WriteString(" " + string(c.Results.Of(s.Text)) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Left out\n\n| spec | reason |\n|---|---|\n")
	for _, s := range list {
		if s.Cluster == None {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(s.Text), cell(s.Reason))
		}
	}
	return b.String()
}

// conformance counts the specs that a conformant cluster must pass.
func conformance(list []Spec) (n int) {
	for _, s := range list {
		if strings.Contains(s.Text, "[Conformance]") {
			n++
		}
	}
	return n
}

// count counts specs with an outcome.
func (r Results) count(list []Spec, o Outcome) (n int) {
	for _, s := range list {
		if r.Of(s.Text) == o {
			n++
		}
	}
	return n
}

// cell returns a text fit for a table: the family's brackets are no links, and a bar ends no column.
func cell(text string) string {
	return strings.NewReplacer("[", `\[`, "]", `\]`, "|", `\|`, "<", "&lt;").Replace(strings.TrimPrefix(text, "[sig-network] "))
}
