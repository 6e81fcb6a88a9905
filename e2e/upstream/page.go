// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"fmt"
	"strings"
)

// Run says what was run.
type Run struct {
	Kubernetes, Kernel, Nftproxy, Date string
	Ours, Theirs                       Results // Theirs is nil where real kube-proxy was not run
}

// outcomes are the columns of the table of counts.
var outcomes = [...]Outcome{Passed, Failed, Skipped, NotRun}

// Page returns the text of docs/conformance.md.
func Page(list []Spec, r Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Kubernetes' own tests\n\nUpstream's sig-network e2e specs of Kubernetes %s, on clusters of namespaces whose only Service proxy is nftproxy, or real\nkube-proxy (nftables mode). `make e2e-upstream` runs them and writes this page.\n\n", r.Kubernetes)
	fmt.Fprintf(&b, "Kubernetes %s, Linux %s, nftproxy %s, %s.\n\n", r.Kubernetes, r.Kernel, r.Nftproxy, r.Date)
	chosen := 0
	for _, s := range list {
		if s.Cluster != None {
			chosen++
		}
	}
	fmt.Fprintf(&b, "Of %d specs %d are chosen. The others are below, each with the reason.\n\n| proxy | passed | failed | skips itself | not run |\n|---|---|---|---|---|\n", len(list), chosen)
	for _, p := range r.proxies() {
		fmt.Fprintf(&b, "| %s |", p.name)
		for _, o := range outcomes {
			fmt.Fprintf(&b, " %d |", p.results.count(list, o))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Specs\n\n| spec |")
	rule := "|---|"
	for _, p := range r.proxies() {
		b.WriteString(" " + p.name + " |")
		rule += "---|"
	}
	b.WriteString("\n" + rule + "\n")
	for _, s := range list {
		if s.Cluster == None {
			continue
		}
		b.WriteString("| " + cell(s.Text) + " |")
		for _, p := range r.proxies() {
			b.WriteString(" " + string(p.results.of(s)) + " |")
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

type proxy struct {
	name    string
	results Results
}

func (r *Run) proxies() []proxy {
	out := []proxy{{"nftproxy", r.Ours}}
	if r.Theirs != nil {
		out = append(out, proxy{"kube-proxy", r.Theirs})
	}
	return out
}

func (r Results) of(s Spec) Outcome {
	if o, ok := r[s.Text]; ok {
		return o
	}
	return NotRun
}

// count counts chosen specs with an outcome.
func (r Results) count(list []Spec, o Outcome) (n int) {
	for _, s := range list {
		if s.Cluster != None && r.of(s) == o {
			n++
		}
	}
	return n
}

// cell returns a text fit for a table: the family's brackets are no links, and a bar ends no column.
func cell(text string) string {
	return strings.NewReplacer("[", `\[`, "]", `\]`, "|", `\|`, "<", "&lt;").Replace(text)
}
