// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// readAll has a result read a console, a second for each line.
func readAll(r *result, console string) *result {
	at := time.Duration(0)
	for line := range strings.Lines(console) {
		at += time.Second
		r.read(strings.TrimSuffix(line, "\n"), at)
	}
	return r
}

// TestConsole: what a guest says is taken in, and said of each capability and suite.
func TestConsole(t *testing.T) {
	r := readAll(newResult("6.1.0-56-cloud-amd64"), `=== kernel 6.1.0
=== has flowtable yes
=== check 0
ok       kernel                           6.1.0
ok       nftables: random                 numgen
warning  nftables: owned tables           no persist
warning  connection tracking              none
=== slowness 7
=== begin demo
failed is a word of the demo
=== end demo 0
=== slowness 12
=== begin packets
=== RUN   TestA
--- PASS: TestSchedulers (0.1s)
    --- PASS: TestSchedulers/one (0.1s)
--- SKIP: TestSCTPAssociations (0.1s)
--- FAIL: TestTrace (0.1s)
=== end packets 1
`)
	r.SCTP, r.Asked = true, []string{"demo", "packets"}
	c := columns([]*result{r})[0]
	got := map[string]string{"check": checkCell(r), "slowness": slownessCell(r), "title": c.title(), "demo": r.Suites["demo"].cell(), "packets": r.Suites["packets"].cell()}
	for _, of := range capabilities() {
		switch {
		case strings.HasPrefix(of.name, "other sched"), strings.HasPrefix(of.name, "`nftproxy trace"), strings.HasPrefix(of.name, "real SCTP: conn"),
			strings.HasPrefix(of.name, "masq"), of.has != "":
			word, _, _ := strings.Cut(of.name, " (")
			got[word] = c.judge(of)
		}
	}
	want := map[string]string{"check": "ok", "slowness": "7 to 12 times", "title": "6.1.0-56", "demo": "ok", "packets": "failed: 1 passed, 1 failed, 1 skipped",
		"other schedulers": "passed", "`nftproxy trace`": "**failed**: TestTrace", "real SCTP: connections, several associations": "skipped",
		"masquerading, a pod that reaches itself": "-", "flow tables": "yes"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if r.good() {
		t.Error("what failed is good")
	}
	if r.Asked = []string{"demo"}; !r.good() {
		t.Error("what did not fail is not good")
	}
	if seconds := r.Suites["demo"].Seconds; seconds != 2 {
		t.Errorf("the demo took %v s, want 2", seconds)
	}
	wantRemarks := []string{"6.1.0-56, with SCTP: nftproxy check: warning nftables: owned tables no persist", "6.1.0-56, with SCTP: e2e/packets: failed: TestTrace"}
	if diff := cmp.Diff(wantRemarks, remarks([]*result{r})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestColumns: a kernel is one column, which says where its runs differ.
func TestColumns(t *testing.T) {
	with, without, other := newResult("6.1"), newResult("6.1"), newResult("7.3")
	with.SCTP, other.SCTP = true, true
	readAll(with, "=== begin packets\n--- PASS: TestSchedulers (0.1s)\n--- PASS: TestSCTPAssociations (0.1s)\n--- PASS: TestMasquerade (0.1s)\n"+
		"--- PASS: TestHairpin (0.1s)\n--- FAIL: TestHairpinFromOutside (0.1s)\n=== end packets 1\n")
	readAll(without, "=== begin packets\n--- PASS: TestSchedulers (0.1s)\n--- SKIP: TestSCTPAssociations (0.1s)\n--- PASS: TestMasquerade (0.1s)\n"+
		"--- PASS: TestHairpin (0.1s)\n--- PASS: TestHairpinFromOutside (0.1s)\n=== end packets 0\n")
	cols := columns([]*result{with, without, other})
	if len(cols) != 2 || len(cols[0].runs) != 2 {
		t.Fatalf("%d columns, the first of %d runs", len(cols), len(cols[0].runs))
	}
	var got []string
	for _, of := range capabilities() {
		for _, name := range []string{"other", "masq", "real SCTP: conn"} {
			if strings.HasPrefix(of.name, name) {
				got = append(got, cols[0].judge(of), cols[1].judge(of))
			}
		}
	}
	want := []string{"passed", "-", "with SCTP: **failed**: TestHairpinFromOutside; without SCTP: passed", "-", "passed", "-"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestAdd: what ran before with the same kernel and version counts, but for tests that ran again.
func TestAdd(t *testing.T) {
	dir := t.TempDir()
	first := readAll(newResult("6.1"), "=== begin conntrack\n--- PASS: TestX (0.1s)\n=== end conntrack 0\n"+
		"=== begin packets\n--- PASS: TestA (0.1s)\n--- FAIL: TestB (0.1s)\n--- SKIP: TestC (0.1s)\n=== end packets 1\n")
	if err := first.save(dir); err != nil {
		t.Fatal(err)
	}
	const again = "=== begin packets\n--- PASS: TestB (0.1s)\n--- FAIL: TestC (0.1s)\n=== end packets 1\n"
	second, newer := readAll(newResult("6.1"), again), readAll(newResult("6.1"), again)
	newer.Version = "v2"
	for _, r := range []*result{second, newer} {
		if err := r.add(dir); err != nil {
			t.Fatal(err)
		}
	}
	want := &outcome{Code: "1", Seconds: 3 + 4, Passed: []string{"TestB", "TestA"}, Failed: []string{"TestC"}}
	if diff := cmp.Diff(want, second.Suites["packets"]); diff != "" || second.Suites["conntrack"] == nil {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(newer.Suites) != 1 || len(newer.Suites["packets"].Passed) != 1 {
		t.Error("the results of another version are added")
	}
}

// TestSection: the page keeps what is around the table, and the results of earlier runs count.
func TestSection(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "page.md")
	if err := os.WriteFile(page, []byte("before\n"+beginMark+"\nold\n"+endMark+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a := range []about{{Kernel: "6.12.1-cloud-amd64", Series: "6.12", SCTP: true}, {Kernel: "5.10.0-9-cloud-amd64", Series: "5.10"},
		{Kernel: "6.12.3-cloud-amd64", Series: "6.12", SCTP: true, Version: "v2"}, {Kernel: "6.12.3-cloud-amd64", Series: "6.12"}} {
		if err := (&result{about: a}).save(dir); err != nil {
			t.Fatal(err)
		}
	}
	results, err := loadResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err = writeSection(page, results); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n" + beginMark + "\n## Kernels\n", "|  | 5.10.0-9 | 6.12.3 |\n|---|---|---|\n", "| nftproxy |  | v2,  |\n", "\n" + endMark + "\nafter\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "\nold\n") {
		t.Error("the old table is still there")
	}
	if err = os.WriteFile(page, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err = writeSection(page, results); err == nil {
		t.Error("a page without marks is taken")
	}
}

// TestChecked: a check that crashed, or that found nothing, is not good.
func TestChecked(t *testing.T) {
	const ok, failed = "ok       nftables: random  numgen", "failed   nftables: NodePorts  no fib"
	for _, tt := range []struct {
		name  string
		lines []string
		want  bool
	}{
		{"all there", []string{"=== check 0", ok}, true},
		{"something else failed", []string{"=== check 1", ok, "failed   API server  none"}, false},
		{"a feature missing", []string{"=== check 1", ok, failed}, false},
		{"nothing printed", []string{"=== check 1"}, false},
		{"crashed", []string{"=== check 2", ok}, false},
		{"not ended", []string{ok}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := readAll(newResult("6.1"), strings.Join(tt.lines, "\n"))
			var b strings.Builder
			if err := writeTable(&b, []*result{r}); err != nil {
				t.Fatal(err)
			}
			if r.good() != tt.want || strings.Contains(b.String(), "  ok") != tt.want {
				t.Errorf("good: %v, want %v:\n%s", r.good(), tt.want, b.String())
			}
		})
	}
}

// TestSome: of a run of some tests the table does not say that a suite passed.
func TestSome(t *testing.T) {
	r := readAll(newResult("6.1"), "=== begin lock\n--- PASS: TestX (0.1s)\n=== end lock 0\n")
	for some, want := range map[bool]string{false: "all of lock", true: "tests some"} {
		var b strings.Builder
		r.Some = some
		if err := writeTable(&b, []*result{r}); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(text, want) || some == strings.Contains(text, "all of lock") {
			t.Errorf("some: %v, want %q:\n%s", some, want, b.String())
		}
	}
}
