// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// column is a kernel, and its runs: with the kernel's SCTP, or without it, or both.
type column struct {
	kernel string
	runs   []*result
}

// columns puts runs of the same kernel together. They come in the order of the table.
func columns(results []*result) []column {
	var list []column
	for _, r := range results {
		i := slices.IndexFunc(list, func(c column) bool { return c.kernel == r.Kernel })
		if i < 0 {
			list = append(list, column{kernel: r.Kernel})
			i = len(list) - 1
		}
		list[i].runs = append(list[i].runs, r)
	}
	return list
}

// title is the kernel's version without what all have.
func (c column) title() string { return strings.TrimSuffix(c.kernel, "-cloud-amd64") }

// judge returns what the runs say of a capability, in one cell.
func (c column) judge(of capability) string {
	return c.combine(of.judge)
}

// combine returns what all runs say, if that is the same, or else what each says. A run that says nothing does not count.
func (c column) combine(say func(*result) string) string {
	var said, texts []string
	for _, r := range c.runs {
		text := say(r)
		if text == notRun {
			continue
		}
		if !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
		said = append(said, withSCTP(r.SCTP)+" SCTP: "+text)
	}
	switch len(texts) {
	case 0:
		return notRun
	case 1:
		return texts[0]
	}
	return strings.Join(said, "; ")
}

func withSCTP(yes bool) string {
	if yes {
		return "with"
	}
	return "without"
}

// grid is the table: a row of titles, and rows that begin with their names.
func grid(cols []column) [][]string {
	row := func(name string, cell func(column) string) []string {
		cells := []string{name}
		for _, c := range cols {
			cells = append(cells, cell(c))
		}
		return cells
	}
	rows := [][]string{
		row("", column.title),
		row("`nftproxy check`", func(c column) string { return c.combine(checkCell) }),
	}
	for _, of := range capabilities() {
		rows = append(rows, row(of.name, func(c column) string { return c.judge(of) }))
	}
	for _, s := range suites() {
		for _, sctp := range []bool{true, false} {
			cells := row("all of "+s.dir+", "+withSCTP(sctp)+" the kernel's SCTP", func(c column) string {
				for _, r := range c.runs {
					if r.SCTP == sctp && !r.Some && (!r.Brief || wholly(s.name)) {
						return r.Suites[s.name].cell()
					}
				}
				return notRun
			})
			if slices.ContainsFunc(cells[1:], func(cell string) bool { return cell != notRun }) {
				rows = append(rows, cells)
			}
		}
	}
	return append(rows,
		row("emulated by QEMU", func(c column) string { return c.each(func(r *result) string { return orDash(r.QEMU) }) }),
		row("slower than a plain machine", func(c column) string { return c.combine(slownessCell) }),
		row("tests", func(c column) string { return c.each(amount) }),
		row("minutes", func(c column) string {
			return c.each(func(r *result) string { return fmt.Sprintf("%.0f", r.Took.Minutes()) })
		}),
		row("nftproxy", func(c column) string { return c.each(func(r *result) string { return r.Version }) }),
		row("on", func(c column) string {
			return c.each(func(r *result) string { return r.Began.UTC().Format(time.DateOnly) })
		}))
}

// wholly says whether all tests of a suite run in a brief run, too.
func wholly(name string) bool {
	return slices.ContainsFunc(brief(), func(p part) bool { return p.name == name && p.run == "." })
}

// each returns what every run says, in their order, once if they say the same.
func (c column) each(say func(*result) string) string {
	var texts []string
	for _, r := range c.runs {
		texts = append(texts, say(r))
	}
	if len(slices.Compact(slices.Clone(texts))) == 1 {
		return texts[0]
	}
	return strings.Join(texts, ", ")
}

func amount(r *result) string {
	switch {
	case r.Some:
		return "some"
	case r.Brief:
		return "those of the rows above"
	}
	return "all"
}

func checkCell(r *result) string {
	if r.Check.good() {
		return "ok"
	}
	return "**failed**"
}

func slownessCell(r *result) string {
	if len(r.Slowness) == 0 {
		return notRun
	}
	var least, most string
	least, most = r.Slowness[0], r.Slowness[0]
	for _, s := range r.Slowness {
		if slices.Compare(numbers(s), numbers(least)) < 0 {
			least = s
		}
		if slices.Compare(numbers(s), numbers(most)) > 0 {
			most = s
		}
	}
	if least == most {
		return most + " times"
	}
	return least + " to " + most + " times"
}

// remarks name what failed, and what `nftproxy check` says that a kernel lacks.
func remarks(results []*result) []string {
	var list []string
	for _, r := range results {
		where := fmt.Sprintf("%s, %s SCTP", column{kernel: r.Kernel}.title(), withSCTP(r.SCTP))
		if r.Error != "" {
			list = append(list, where+": "+r.Error)
		}
		for _, l := range slices.Concat(r.Check.Failed, r.Check.Warns) {
			list = append(list, where+": nftproxy check: "+strings.Join(strings.Fields(l), " "))
		}
		for _, s := range suites() {
			if o := r.Suites[s.name]; o != nil && len(o.Failed) > 0 {
				list = append(list, where+": "+s.dir+": failed: "+strings.Join(o.Failed, " "))
			}
		}
	}
	return list
}

// writeTable writes the table as text, and the remarks; nothing, if nothing ran.
func writeTable(w io.Writer, results []*result) error {
	if len(results) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range grid(columns(results)) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range remarks(results) {
		if _, err := fmt.Fprintln(w, r); err != nil {
			return err
		}
	}
	return nil
}

// Where the table goes in a page: between these lines, which stay.
const (
	beginMark = "<!-- kernels:begin -->"
	endMark   = "<!-- kernels:end -->"
)

// section returns the table as Markdown, with its title.
func section(results []*result) string {
	var b strings.Builder
	b.WriteString("## Kernels\n\n`make kernels` boots Debian's own kernels in emulated machines, runs these tests in each, and writes this table. SCTP is the\n" +
		"kernel's: with it the tests use its sockets; without its module they send SCTP packets of their own.\n\n")
	for i, row := range grid(columns(results)) {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	if list := remarks(results); len(list) > 0 {
		b.WriteString("\n")
		for _, r := range list {
			fmt.Fprintf(&b, "- %s\n", r)
		}
	}
	return b.String()
}

// writeSection puts the table into a page, in place of what is between the marks.
func writeSection(page string, results []*result) error {
	data, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, began := strings.Cut(string(data), beginMark+"\n")
	_, after, ended := strings.Cut(rest, endMark)
	if !began || !ended {
		return fmt.Errorf("write the table into %s: it needs the lines %s and %s", page, beginMark, endMark)
	}
	text := before + beginMark + "\n" + section(results) + endMark + after
	return os.WriteFile(page, []byte(text), 0o644) // a page of the repository
}
