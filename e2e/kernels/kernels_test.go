// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

func TestResults(t *testing.T) {
	suites := []string{"demo", "traffic", "packets"}
	one, two, none := newResult("6.1"), newResult("6.12"), newResult("7.3")
	for line := range strings.Lines(`=== kernel 6.1.0
=== has SCTP no
=== has owner yes
=== has persist no
=== check 1
ok       nftables: random  numgen
=== begin demo
failed is a word of the demo
=== end demo 0
=== begin traffic
=== RUN   TestA
--- PASS: TestA (0.1s)
    --- PASS: TestA/one (0.1s)
--- SKIP: TestB (0.1s)
=== end traffic 0
=== begin packets
--- FAIL: TestC (0.1s)
--- PASS: TestD (0.1s)
=== end packets 1
`) {
		one.read(strings.TrimSuffix(line, "\n"))
	}
	for _, line := range []string{"=== has SCTP yes", "failed   nftables: NodePorts  no fib", "=== begin demo"} {
		two.read(line)
	}
	var b strings.Builder
	if err := writeTable(&b, []*result{one, two, none}, suites); err != nil {
		t.Fatal(err)
	}
	const want = `KERNEL  SCTP  owner  persist  check   demo      traffic                            packets
6.1     no    yes    no       ok      ok        ok: 1 passed, 0 failed, 1 skipped  failed: 1 passed, 1 failed, 0 skipped
6.12    yes   -      -        failed  not done  -                                  -
7.3     -     -      -        failed  -         -                                  -
6.1 (SCTP: no): packets: TestC
6.12: check: failed   nftables: NodePorts  no fib
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if one.good(suites) || !one.good(suites[:2]) || two.good(nil) || none.good(suites) {
		t.Error("what failed is good, or the other way round")
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
			r := newResult("6.1")
			for _, line := range append([]string{"=== has SCTP yes"}, tt.lines...) {
				r.read(line)
			}
			var b strings.Builder
			if err := writeTable(&b, []*result{r}, nil); err != nil {
				t.Fatal(err)
			}
			if r.good(nil) != tt.want || strings.Contains(b.String(), "  ok") != tt.want {
				t.Errorf("good: %v, want %v:\n%s", r.good(nil), tt.want, b.String())
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
