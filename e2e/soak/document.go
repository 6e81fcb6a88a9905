// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
)

// write makes the report: results, page and plots.
func (r *results) write(dir string) error {
	return errors.Join(r.save(dir), report.WriteDocument(dir, r.document()))
}

// verdict says in a word how it ended.
func (r *results) verdict() string {
	if r.passed() {
		return "passed"
	}
	return "failed"
}

// what says what was done, in a sentence.
func (r *results) what() string {
	p := r.Plan
	return fmt.Sprintf("%.0f minutes with %s Services, %d changes and %d new connections a second, %d open connections, a change by another program every %s, and the API server killed and started again every %s",
		r.Length.Minutes(), count(int64(p.Services)), p.Changes, p.Connections, p.Open, short(p.Foreign.String()), short(p.Restarts.String()))
}

// short leaves out the zero of a duration's text: 5m0s is 5m.
func short(text string) string { return strings.Replace(text, "m0s", "m", 1) }

func (r *results) document() report.Document {
	m := r.Machine
	d := report.Document{Title: "nftproxy, soaked: " + r.verdict(), Facts: []report.Fact{
		{Name: "Run", Text: r.Began.Format("2 January 2006, 15:04 MST") + "; " + r.what()},
		{Name: "Services", Text: r.Services},
		{Name: "Machine", Text: fmt.Sprintf("%s, %d cores, %s MB; everything runs on it: etcd, API server, controllers, clients, servers and nftproxy", m.CPU, m.Cores, count(int64(m.MemoryMB)))},
		{Name: "System", Text: fmt.Sprintf("Linux %s, %s", m.Kernel, m.OS)},
		{Name: "Versions", Text: fmt.Sprintf("%s, Kubernetes %s, %s", m.Commit, m.Kubernetes, m.Go)},
	}}
	found := report.Chapter{Title: "Found", Columns: []string{"", ""}}
	for _, row := range r.Rows {
		found.Rows = append(found.Rows, report.Row{Cells: []string{row.What, row.Found}, Bad: row.Bad})
	}
	if r.Error != "" {
		found.Rows = append(found.Rows, report.Row{Cells: []string{"It ended early", r.Error}, Bad: true})
	}
	d.Chapters = append(d.Chapters, found)
	if len(r.Failures) > 0 {
		var texts []string
		for _, f := range r.Failures {
			texts = append(texts, f.String())
		}
		d.Chapters = append(d.Chapters, report.Chapter{Title: fmt.Sprintf("The first of %s failures", count(int64(r.Failed))), Verbatim: strings.Join(texts, "\n\n")})
	}
	d.Chapters = append(d.Chapters, report.Chapter{Title: "Over time", Plots: r.plots()})
	if r.Log != "" {
		d.Chapters = append(d.Chapters, report.Chapter{Title: "nftproxy's last lines", Verbatim: r.Log})
	}
	return d
}

// plots are those of the page.
func (r *results) plots() []report.TimePlot {
	minutes := r.Series[colMinute]
	line := func(name, column string) report.TimeLine {
		return report.TimeLine{Name: name, Minutes: minutes, Values: r.Series[column]}
	}
	memory := []report.TimeLine{line("resident memory", colMemory)}
	if early, _ := r.windows(colMemory); early > 0 {
		end := minutes[len(minutes)-1]
		memory = append(memory, report.TimeLine{Name: fmt.Sprintf("%.1f times minute 2", mostMemory), Minutes: []float64{0, end},
			Values: []float64{mostMemory * early, mostMemory * early}, Bound: true})
	}
	out := []report.TimePlot{
		{Name: "memory", Title: "Memory of nftproxy", Unit: "MB", Lines: memory},
		{Name: "connections", Title: "New connections a second, and how many failed in all", Unit: "connections",
			Lines: []report.TimeLine{line("a second", colConnections), line("failed in all", colFailed)}},
		{Name: "slowest", Title: "The slowest new connection since the sample before", Unit: "ms", Lines: []report.TimeLine{line("slowest", colSlowest)}},
		{Name: "changes", Title: "Changes a second", Unit: "1/s", Lines: []report.TimeLine{line("Services, endpoints", colChanges), line("nftables, by others", colForeign)}},
		{Name: "cpu", Title: "CPU time of nftproxy, of a core", Unit: "%", Lines: []report.TimeLine{line("user and system", colCPU)}},
		{Name: "resources", Title: "Goroutines and open files of nftproxy", Unit: "connections", Lines: []report.TimeLine{line("goroutines", colGoroutines), line("open files", colDescriptors)}},
	}
	for i := range out {
		out[i].Marks, out[i].MarkName = r.Restarts, "API server killed"
	}
	return out
}

// The marks around the part of a page that is this program's.
const (
	pageBegin = "<!-- soak:begin -->"
	pageEnd   = "<!-- soak:end -->"
)

// pageFrame is a page that does not have the part.
const pageFrame = `# Reliability

What nftproxy has been put through. The tables are made by the commands that are named with them.

## Hours under load

` + pageBegin + "\n" + pageEnd + "\n"

// section is the part of the documentation's page.
func (r *results) section() string {
	m := r.Machine
	out := &strings.Builder{}
	fmt.Fprintf(out, "`make soak MINUTES=%.0f`, %s, %s: %s. %s, Linux %s, Kubernetes %s, on %d cores that the API server, the clients and the servers shared with it.\n\n",
		r.Length.Minutes(), r.Began.Format("2006-01-02"), r.verdict(), r.what(), m.Commit, m.Kernel, m.Kubernetes, m.Cores)
	fmt.Fprintf(out, "| | |\n|---|---|\n")
	for _, row := range r.Rows {
		fmt.Fprintf(out, "| %s | %s |\n", cell(row.What), cell(row.Found))
	}
	return out.String()
}

// cell makes text fit for a table's cell.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(strings.TrimSpace(text))
}

// publish puts the part into a page, which is made if there is none.
func (r *results) publish(file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		text, err = []byte(pageFrame), os.MkdirAll(filepath.Dir(file), 0o755)
	}
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	before, rest, begins := strings.Cut(string(text), pageBegin)
	_, after, ends := strings.Cut(rest, pageEnd)
	if !begins || !ends {
		return fmt.Errorf("write the table: %s has no lines %s and %s after it: add them where the table is to be", file, pageBegin, pageEnd)
	}
	page := before + pageBegin + "\n" + r.section() + "\n" + pageEnd + after
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
