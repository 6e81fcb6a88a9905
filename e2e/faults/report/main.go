// SPDX-License-Identifier: Apache-2.0

// Command report prints the results of e2e/faults as a table, and writes it between the lines <!-- faults:begin --> and
// <!-- faults:end --> of a page:
//
//	go run ./e2e/faults/report -version v1.2 -o docs/reliability.md results.jsonl
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The lines of the page between which the table is.
const (
	begin = "<!-- faults:begin -->\n"
	end   = "<!-- faults:end -->\n"
)

// result is a line of the file of results.
type result struct {
	Row, Fault, Note string
	counts
	Longest, Right time.Duration
	Good           bool
}

// counts is how many connections there were, through Services and straight to pods, and what became of them.
type counts struct{ Connections, Failed, Stalled, Direct, DirectStalled, Open, Lost int }

func main() {
	version := flag.String("version", "unknown", "which nftproxy it was")
	page := flag.String("o", "", "the page that the table is written to; none: it is only printed")
	flag.Parse()
	if err := run(*version, *page, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(version, page string, files []string) error {
	var list []result
	for _, f := range files {
		some, err := read(f)
		if err != nil {
			return err
		}
		list = append(list, some...)
	}
	if len(list) == 0 {
		return errors.New("no results")
	}
	text := table(list, fmt.Sprintf("nftproxy %s, %s, Linux %s, %d CPUs", version, time.Now().UTC().Format(time.DateOnly), kernel(), runtime.NumCPU()))
	fmt.Print(text)
	if page == "" {
		return nil
	}
	return insert(page, text)
}

func read(path string) (list []result, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var r result
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// table writes results in Markdown, those of a row together.
func table(list []result, where string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. A connection has failed that got no answer in 10 s, with all that its client sends again; it has stalled if the answer took more than 150 ms. Straight: which part of those connections stalled that went straight to a pod at the same time: it says how busy the machine was.\n\n", where)
	fmt.Fprintln(&b, "| | fault | connections | failed | stalled | straight | longest | open ones lost | kernel right after | | |")
	fmt.Fprintln(&b, "|---|---|---:|---:|---:|---:|---:|---:|---:|---|---|")
	var rows []string
	for _, r := range list {
		if !slices.Contains(rows, r.Row) {
			rows = append(rows, r.Row)
		}
	}
	for _, row := range rows {
		name := "**" + row + "**"
		for _, r := range list {
			if r.Row != row {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", name, r.Fault, strings.Join(r.cells(), " | "))
			name = ""
		}
	}
	return b.String()
}

// cells are the columns after the fault's name.
func (r *result) cells() []string {
	good := "passed"
	if !r.Good {
		good = "**failed**"
	}
	if r.Connections == 0 {
		return []string{"", "", "", "", "", "", duration(r.Right), r.Note, good}
	}
	straight := ""
	if r.Direct > 0 {
		straight = fmt.Sprintf("%.1f %%", 100*float64(r.DirectStalled)/float64(r.Direct))
	}
	return []string{fmt.Sprint(r.Connections), fmt.Sprint(r.Failed), fmt.Sprintf("%.1f %%", 100*float64(r.Stalled)/float64(r.Connections)), straight, duration(r.Longest),
		fmt.Sprintf("%d of %d", r.Lost, r.Open), duration(r.Right), r.Note, good}
}

func duration(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(1, d.Milliseconds()))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// insert puts a text between the two lines of a page, which it makes if there is none.
func insert(page, text string) error {
	old, err := os.ReadFile(page)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before, rest, found := strings.Cut(string(old), begin)
	_, after, ended := strings.Cut(rest, end)
	switch {
	case !found:
		before, after = strings.TrimRight(string(old), "\n")+"\n\n## Faults\n\n", ""
	case !ended:
		return fmt.Errorf("%s has %q without %q", page, begin, end)
	}
	return os.WriteFile(page, []byte(strings.TrimLeft(before, "\n")+begin+"\n"+text+"\n"+end+after), 0o644) // for everybody to read
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
