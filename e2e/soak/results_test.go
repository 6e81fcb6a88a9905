// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// of returns results with a memory that is so much at each half minute.
func of(memory ...float64) *results {
	r := &results{Began: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Plan: fullPlan(20), Series: series{}, Length: 20 * time.Minute}
	for i, mb := range memory {
		for _, column := range []string{colCPU, colGoroutines, colDescriptors, colConnections, colFailed, colSlowest, colChanges, colForeign, colRepairs, colRefused} {
			r.Series.add(column, 1)
		}
		r.Series.add(colMinute, 0.25+float64(i)/2)
		r.Series.add(colMemory, mb)
	}
	return r
}

// TestMemory: what counts is the mean of each minute after the second, against that of the second.
func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		r      *results
		passes bool
	}{
		"flat":         {of(90, 80, 50, 50, 50, 50, 51, 50), true},
		"a short peak": {of(90, 80, 50, 50, 50, 59, 51, 50), true},
		"a leak":       {of(10, 20, 50, 50, 50, 50, 56, 57), false},
		"too short":    {of(10, 20), false},
		"its end":      {of(90, 80, 50, 50, 50, 50, 51, 50, 90), true},
	} {
		c.r.usageRows()
		if c.r.passed() != c.passes {
			t.Errorf("%s: passed is %v: %v", name, c.r.passed(), c.r.Rows)
		}
	}
}

// TestPublish: the part between the marks is replaced, and nothing else.
func TestPublish(t *testing.T) {
	r := of(90, 80, 50, 50, 50, 50)
	r.row("a <thing>", "a | b\nc", false)
	file := filepath.Join(t.TempDir(), "docs", "page.md")
	must(t, r.publish(file))
	first, err := os.ReadFile(file)
	must(t, err)
	for _, want := range []string{"# Reliability", "2026-05-04", "passed", `| a &lt;thing> | a \| b c |`} {
		if !strings.Contains(string(first), want) {
			t.Errorf("the page lacks %q:\n%s", want, first)
		}
	}
	must(t, os.WriteFile(file, []byte("others' text\n"+string(first)+"more of it\n"), 0o644))
	r.Rows[0].Found = "something else"
	must(t, r.publish(file))
	second, err := os.ReadFile(file)
	must(t, err)
	if got, want := string(second), "others' text\n"+strings.Replace(string(first), `a \| b c`, "something else", 1)+"more of it\n"; got != want {
		t.Errorf("the page is\n%s\nwant\n%s", got, want)
	}
	must(t, os.WriteFile(file, []byte("no marks\n"), 0o644))
	if err := r.publish(file); err == nil || !strings.Contains(err.Error(), pageBegin) {
		t.Errorf("a page without marks: %v", err)
	}
}

// TestReport: the page shows the plots, and what failed with what was done then.
func TestReport(t *testing.T) {
	r := of(90, 80, 50, 50, 50, 50)
	r.Restarts = []float64{1.5}
	var first []failure
	d := newDiary(func(f failure) { first = append(first, f) })
	begun := time.Now()
	d.did("", "an old thing")(nil)
	d.did("web-1", "update EndpointSlice web-1")(errors.New("no answer"))
	d.did("web-2", "update EndpointSlice web-2")(nil)
	d.did("", "the API server is killed")
	d.fail(begun, "web-1", "a new connection", errors.New("refused"))
	d.fail(begun, "web-2", "a new connection", errors.New("refused"))
	r.Failures, r.Failed = d.found()
	text := r.Failures[0].String()
	for _, want := range []string{"web-1: no answer (took", "the API server is killed (goes on)", "Service web-1: a new connection: refused"} {
		if !strings.Contains(text, want) {
			t.Errorf("the failure lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "web-2") || len(first) != 1 || r.passed() {
		t.Errorf("it tells of another Service, was told %d times, or passed:\n%s", len(first), text)
	}
	dir := t.TempDir()
	must(t, r.write(dir))
	page, err := os.ReadFile(filepath.Join(dir, "index.html"))
	must(t, err)
	for _, want := range []string{"nftproxy, soaked: failed", "Service web-1: a new connection: refused", "API server killed", "<svg"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if got := strings.Count(string(page), "<svg"); got != len(r.plots()) {
		t.Errorf("the page has %d plots, want %d", got, len(r.plots()))
	}
}
