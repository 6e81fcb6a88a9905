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
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o755); err != nil { // it stands for a program
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
	if parts, err = parseParts("ipvs", "."); err != nil || plan(parts) != "ipvs e2e/packets ^TestMigrationFromIPVS$\n" {
		t.Errorf("%v, got\n%s", err, plan(parts))
	}
	if slices.Contains(names(everything()), "ipvs") {
		t.Error("what has to be asked for runs always")
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

// stubs puts scripts before this machine's programs, by name.
func stubs(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil { // it is a program
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
	for _, n := range neededByAll {
		if filepath.IsAbs(n.program) { // PATH says nothing of it
			netnstest.Tool(t, n.program)
		}
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	script := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil { // it is a program
			t.Fatal(err)
		}
	}
	for _, n := range neededByAll {
		if n.program != "qemu-system-x86_64" && !filepath.IsAbs(n.program) {
			script(n.program, "")
		}
	}
	err := findPrograms(t.Context(), nil, false, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "apt-get install") || !strings.HasSuffix(err.Error(), " qemu-system-x86") {
		t.Errorf("error %v, want it to name the package", err)
	}
	script("apt-get", "[ $1 = update ] || { : >"+dir+"/qemu-system-x86_64; /bin/chmod 755 "+dir+"/qemu-system-x86_64; }\n")
	if err = findPrograms(t.Context(), nil, true, io.Discard); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/bin/sh"); err == nil && static("/bin/sh") {
		t.Error("/bin/sh is taken for a static program")
	}
}
