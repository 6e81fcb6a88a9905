// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// TestArchive: cpio, whose format the kernel reads, lists what was written.
func TestArchive(t *testing.T) {
	tool := netnstest.Tool(t, "cpio")
	root := t.TempDir()
	for name, size := range map[string]int{"empty": 0, "three": 3, "d/four": 4, "d/e/large": 100_001} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o755); err != nil { //nolint:gosec // it stands for a program
			t.Fatal(err)
		}
	}
	if err := os.Symlink("d/four", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := writeArchive(&archive, root); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), tool, "-id", "--quiet")
	cmd.Dir, cmd.Stdin = out, &archive
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if text, err := exec.CommandContext(t.Context(), "diff", "-r", "--no-dereference", root, out).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	if info, err := os.Stat(filepath.Join(out, "three")); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v: want mode 0755", info, err)
	}
}

func TestVersions(t *testing.T) {
	versions := []string{"6.12.118+deb13-cloud-amd64", "5.10.0-46-cloud-amd64", "6.12.9+deb13-cloud-amd64", "7.3.4+deb13-cloud-amd64", "5.10.0-9-cloud-amd64"}
	slices.SortFunc(versions, func(a, b string) int { return slices.Compare(numbers(a), numbers(b)) })
	want := []string{"5.10.0-9-cloud-amd64", "5.10.0-46-cloud-amd64", "6.12.9+deb13-cloud-amd64", "6.12.118+deb13-cloud-amd64", "7.3.4+deb13-cloud-amd64"}
	if diff := cmp.Diff(want, versions); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

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
=== check 1
ok       kernel                           6.1.0
ok       nftables: random                 numgen
warning  nftables: owned tables           no persist
failed   API server                       none
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
		case strings.HasPrefix(of.name, "other sched"), strings.HasPrefix(of.name, "trace"), strings.HasPrefix(of.name, "real SCTP: conn"),
			strings.HasPrefix(of.name, "masq"), of.has != "":
			word, _, _ := strings.Cut(of.name, " (")
			got[word] = c.judge(of)
		}
	}
	want := map[string]string{"check": "ok", "slowness": "7 to 12 times", "title": "6.1.0-56", "demo": "ok", "packets": "failed: 1 passed, 1 failed, 1 skipped",
		"other schedulers": "passed", "trace, explain, top, diff, dump": "**failed**: TestTrace", "real SCTP: connections, several associations": "skipped",
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

// TestCapabilities: what proves a capability is there.
func TestCapabilities(t *testing.T) {
	for _, of := range capabilities() {
		if (of.has == "") == (len(of.tests) == 0) {
			t.Errorf("%s: want either a word of the guest or tests", of.name)
		}
		if of.has != "" && !strings.Contains(string(initScript), "=== has "+of.has+" ") {
			t.Errorf("%s: init.sh says nothing of %s", of.name, of.has)
		}
		for _, id := range of.tests {
			name, test, single := strings.Cut(id, "/")
			s, ok := suiteOf(name)
			if !ok {
				t.Errorf("%s: there is no suite %s", of.name, name)
				continue
			}
			files, err := filepath.Glob(filepath.Join("../..", s.dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			found := !single
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				found = found || bytes.Contains(text, []byte("\nfunc "+test+"(t *testing.T)"))
			}
			if !found {
				t.Errorf("%s: %s has no test %s", of.name, s.dir, test)
			}
		}
	}
}

// TestParts: suites by name, each with the tests that are asked for.
func TestParts(t *testing.T) {
	parts, err := parseParts("demo,kernel=TestWatch|TestModel,packets", "TestA")
	if err != nil {
		t.Fatal(err)
	}
	const want = "demo e2e/demo TestA\nkernel rules/kernel TestWatch|TestModel\npackets e2e/packets TestA\n"
	if got := plan(parts); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, text := range []string{"", "nothing", "kernel=(", "demo,"} {
		if _, err := parseParts(text, "."); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestSources: the tests of a suite find their testdata where they run.
func TestSources(t *testing.T) {
	t.Chdir("../..")
	dir := t.TempDir()
	for _, s := range suites() {
		if err := copySources(dir, s); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"rules/kernel/testdata/fuzz", "rules/statement.go", "e2e/packets"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
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
		{"no API server", []string{"=== check 1", ok, ok}, true},
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

// stubs puts scripts before this machine's programs, by name.
func stubs(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil { //nolint:gosec // it is a program
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestInterruptedUnpacking: a kernel that was not unpacked to the end is fetched again.
func TestInterruptedUnpacking(t *testing.T) {
	r := repository{t.TempDir()}
	stubs(t, map[string]string{
		"apt-cache": "echo '  Depends: linux-modules-6.1'\n",
		"apt-get":   "shift 2; for p; do touch $p.deb; done\n",
		"dpkg": "echo >>" + r.dir + "/calls\n" + // the second one is interrupted
			"mkdir -p $3/boot $3/lib/modules/6.1/kernel && touch $3/boot/vmlinuz-6.1 && [ $(wc -l <" + r.dir + "/calls) != 2 ] && touch $2.done\n",
	})
	if _, err := r.fetch(t.Context(), "6.1"); err == nil {
		t.Fatal("no error of an interrupted dpkg")
	}
	for range 2 { // the second time it is there
		k, err := r.fetch(t.Context(), "6.1")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{k.image, k.modules, filepath.Join(r.dir, "6.1", "linux-image-6.1.deb.done"), filepath.Join(r.dir, "6.1", "linux-modules-6.1.deb.done")} {
			if _, err := os.Stat(name); err != nil {
				t.Error(err)
			}
		}
	}
	if calls, err := os.ReadFile(filepath.Join(r.dir, "calls")); err != nil || len(calls) != 4 {
		t.Errorf("%d packages were unpacked, %v; want 4", len(calls), err)
	}
}

// TestTableOfTheFinished: if a kernel cannot be had, the others run all the same, and the exit code tells it from a failure.
func TestTableOfTheFinished(t *testing.T) {
	stubs(t, map[string]string{"qemu-system-x86_64": "echo '=== check 0'; echo 'ok       nftables: random  numgen'\n"})
	broken := errors.New("no space left")
	for _, tt := range []struct {
		name   string
		failed error
		ran    []string
	}{
		{"cannot be had", errUnavailable, []string{"6.1", "7.3"}},
		{"another error", broken, []string{"6.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prepare := func(series string) (guest, error) {
				if series == "6.12" {
					return guest{}, tt.failed
				}
				return guest{kernel: kernel{version: series}, limit: time.Minute}, nil
			}
			var table bytes.Buffer
			o := options{series: []string{"6.1", "6.12", "7.3"}, sctp: []string{"yes"}}
			good, err := o.bootAll(t.Context(), t.TempDir(), prepare, &table, io.Discard)
			if !good || !errors.Is(err, tt.failed) {
				t.Errorf("good: %v, error: %v", good, err)
			}
			title, _, _ := strings.Cut(table.String(), "\n")
			if got := strings.Fields(title); !slices.Equal(got, tt.ran) {
				t.Errorf("the table is of %s, want %s:\n%s", got, tt.ran, &table)
			}
		})
	}
}

// TestMissingPrograms: what this needs is told by the names of packages, and installed if that is asked for.
func TestMissingPrograms(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	script := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil { //nolint:gosec // it is a program
			t.Fatal(err)
		}
	}
	for _, n := range needed {
		if n.program != "qemu-system-x86_64" {
			script(n.program, "")
		}
	}
	err := findPrograms(t.Context(), false, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "apt-get install") || !strings.HasSuffix(err.Error(), " qemu-system-x86") {
		t.Errorf("error %v, want it to name the package", err)
	}
	script("apt-get", "[ $1 = update ] || { : >"+dir+"/qemu-system-x86_64; /bin/chmod 755 "+dir+"/qemu-system-x86_64; }\n")
	if err = findPrograms(t.Context(), true, io.Discard); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/bin/sh"); err == nil && static("/bin/sh") {
		t.Error("/bin/sh is taken for a static program")
	}
}
