// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// capabilities are what is asked of a kernel, in the table's order, by the words of init.sh.
var capabilities = [...]string{"SCTP", "owner", "persist"}

// result is what a guest's console says.
type result struct {
	kernel    string
	has       map[string]string // yes or no, by capability
	checkCode string            // of `nftproxy check`
	found     int               // how many features it finds
	lacks     []string          // what it misses
	suites    map[string]*outcome
	suite     string // that is running
}

// outcome is how a suite ended.
type outcome struct {
	passed, failed, skipped int // tests that are no subtests
	code                    string
	failures                []string
}

func newResult(kernel string) *result {
	return &result{kernel: kernel, has: map[string]string{}, suites: map[string]*outcome{}}
}

// read takes in a line of the console.
func (r *result) read(line string) {
	words := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "=== has ") && len(words) == 4:
		r.has[words[2]] = words[3]
	case strings.HasPrefix(line, "=== begin ") && len(words) == 3:
		r.suite = words[2]
		r.suites[r.suite] = &outcome{}
	case strings.HasPrefix(line, "=== end ") && len(words) == 4 && r.suites[words[2]] != nil:
		r.suites[words[2]].code = words[3]
	case strings.HasPrefix(line, "=== check ") && len(words) == 3:
		r.checkCode = words[2]
	case r.suite == "" && strings.HasPrefix(line, "ok ") && strings.Contains(line, " nftables: "):
		r.found++
	case r.suite == "" && (strings.HasPrefix(line, "failed ") || strings.HasPrefix(line, "warning ")):
		r.lacks = append(r.lacks, strings.TrimSpace(line))
	case strings.HasPrefix(line, "--- ") && len(words) > 2 && r.suites[r.suite] != nil:
		r.suites[r.suite].note(words[1], words[2])
	}
}

func (o *outcome) note(action, test string) {
	switch action {
	case "PASS:":
		o.passed++
	case "SKIP:":
		o.skipped++
	case "FAIL:":
		o.failed++
		o.failures = append(o.failures, test)
	}
}

// checked says whether `nftproxy check` came to its end, and misses nothing of nftables. What else it misses is no matter.
func (r *result) checked() bool {
	return (r.checkCode == "0" || r.checkCode == "1") && r.found > 0 && len(r.lacks) == 0
}

// good says whether all suites ran, and none failed.
func (r *result) good(suites []string) bool {
	return r.checked() && !slices.ContainsFunc(suites, func(s string) bool { return r.suites[s] == nil || r.suites[s].code != "0" })
}

// cell returns what the table says of a suite.
func (o *outcome) cell() string {
	verdict := map[string]string{"0": "ok", "": "not done"}[o.code]
	if verdict == "" {
		verdict = "failed"
	}
	if o.passed+o.failed+o.skipped == 0 {
		return verdict
	}
	return fmt.Sprintf("%s: %d passed, %d failed, %d skipped", verdict, o.passed, o.failed, o.skipped)
}

// writeTable writes kernels by capabilities and suites, and then the names of what failed.
func writeTable(w io.Writer, results []*result, suites []string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(slices.Concat([]string{"KERNEL"}, capabilities[:], []string{"check"}, suites), "\t"))
	for _, r := range results {
		row := []string{r.kernel}
		for _, c := range capabilities {
			row = append(row, orDash(r.has[c]))
		}
		check := "ok"
		if !r.checked() {
			check = "failed"
		}
		row = append(row, check)
		for _, s := range suites {
			if o := r.suites[s]; o != nil {
				row = append(row, o.cell())
			} else {
				row = append(row, "-")
			}
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		for _, l := range r.lacks {
			fmt.Fprintf(w, "%s: check: %s\n", r.kernel, l)
		}
		for _, s := range suites {
			if o := r.suites[s]; o != nil && len(o.failures) > 0 {
				fmt.Fprintf(w, "%s (SCTP: %s): %s: %s\n", r.kernel, orDash(r.has["SCTP"]), s, strings.Join(o.failures, " "))
			}
		}
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
