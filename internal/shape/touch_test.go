// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTouched: another member of a family is added in few files, and CONTRIBUTING.md names them all.
func TestTouched(t *testing.T) {
	pkgs := product(t)
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families() {
		m := mentionsOf(f, "rules", pkgs)
		if len(m.declared) < 3 {
			t.Errorf("%s: %d are found", f.name, len(m.declared))
		}
		if files := m.touched(); f.count(files) > f.limit {
			t.Errorf("%s: %d files are to be touched for another one, at most %d may be: %s", f.name, len(files), f.limit, strings.Join(files, ", "))
		}
		told := placesToTouch(string(text), f.name)
		if len(told) == 0 || len(told) > f.limit {
			t.Errorf("%s: CONTRIBUTING.md names %d places to touch, want 1 to %d", f.name, len(told), f.limit)
		}
		for _, file := range m.lists() {
			if !slices.ContainsFunc(told, func(alternatives []string) bool { return slices.Contains(alternatives, file) }) {
				t.Errorf("%s: %s lists them all, and CONTRIBUTING.md does not name it", f.name, file)
			}
		}
		declaring := false
		for _, file := range slices.Concat(told...) {
			if _, err := os.Stat(filepath.Join("../..", file)); err != nil {
				t.Errorf("%s: CONTRIBUTING.md names a file that is not there: %v", f.name, err)
			}
			for _, at := range m.declared {
				declaring = declaring || at == file
			}
		}
		if !declaring {
			t.Errorf("%s: CONTRIBUTING.md does not say where one is declared", f.name)
		}
	}
}

// placesToTouch reads a row of the table of what to touch: places are parted by semicolons, and each names files, of which one
// is touched.
func placesToTouch(text, what string) (places [][]string) {
	file := regexp.MustCompile(`[a-z_/]+\.go\b`)
	for line := range strings.SplitSeq(text, "\n") {
		rest, ok := strings.CutPrefix(line, "| "+what+" |")
		if !ok {
			continue
		}
		for place := range strings.SplitSeq(rest, ";") {
			if files := file.FindAllString(place, -1); files != nil {
				places = append(places, files)
			}
		}
	}
	return places
}

// TestLayout: CONTRIBUTING.md says of each package what it is for, and of nothing that is not there.
func TestLayout(t *testing.T) {
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	told := layout(string(text))
	for _, p := range product(t) {
		if !told[p.path] {
			t.Errorf("%s is not in the layout", p.path)
		}
	}
	for dir := range told {
		if _, err := os.Stat(filepath.Join("../..", dir)); err != nil {
			t.Errorf("the layout has what is not there: %v", err)
		}
	}
}

// layout reads the directories of the layout, each two columns to the right of that which it is in.
func layout(text string) map[string]bool {
	_, text, _ = strings.Cut(text, "## Layout\n\n")
	text, _, _ = strings.Cut(text, "\n\n")
	dirs := map[string]bool{}
	var in []string
	for line := range strings.SplitSeq(text, "\n") {
		name := strings.TrimLeft(line, " ")
		depth := (len(line) - len(name) - 4) / 2
		name, _, _ = strings.Cut(name, " ")
		in = append(in[:min(depth, len(in))], strings.TrimSuffix(name, "/"))
		dirs[strings.Join(in, "/")] = true
	}
	return dirs
}

// TestTouchedOfSmall counts in a package that is known.
func TestTouchedOfSmall(t *testing.T) {
	pkgs, err := load("testdata/families", "./...")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		member  func(o family) family
		touched string
	}{
		{"constants", func(f family) family { f.member = constantOf("Colour"); return f }, "rules/colours.go users/all.go"},
		{"types", func(f family) family { f.member = implements("Shape"); return f }, "rules/shapes.go users/all.go"},
		{"fields", func(f family) family { f.member = fieldOf("Options"); return f }, "rules/colours.go users/all.go"},
	} {
		if got := strings.Join(mentionsOf(tt.member(family{}), "rules", pkgs).touched(), " "); got != tt.touched {
			t.Errorf("%s: %s are to be touched, want %s", tt.name, got, tt.touched)
		}
	}
	if got, want := strings.Join(users(pkgs, "rules", "Red"), " "), "rules.names users.All users.Some"; got != want {
		t.Errorf("%s use a constant, want %s", got, want)
	}
}

// TestSelectedInOnePlace: for the kernel endpoints are selected where an owner is built, and nowhere else.
func TestSelectedInOnePlace(t *testing.T) {
	pkgs := product(t)
	for name, want := range map[string][]string{
		"SelectEndpoints": {"proxier.builder.objects", "rules.Build", "rules.ExplainEndpoints"},
		// Proxier.Service is for who asks about one Service.
		"Build": {"cmd/nftproxy/feature.probe.state", "proxier.Proxier.Service"},
	} {
		if got := users(pkgs, "rules", name); !slices.Equal(got, want) {
			t.Errorf("rules.%s is used by %v, want %v", name, got, want)
		}
	}
}

// TestProgrammer: the programmer, and whatever of its package it uses, has no lock, no log and no metrics, and knows nothing of
// Kubernetes.
func TestProgrammer(t *testing.T) {
	for _, p := range product(t) {
		if p.path != "proxier" {
			continue
		}
		all := arrowsBetween(p)
		files := p.methodsOf("programmer")
		if len(files) < 5 {
			t.Errorf("the programmer's methods are in %v", files)
		}
		for _, file := range files {
			files = append(files, below(all, file)...)
		}
		slices.Sort(files)
		for _, file := range slices.Compact(files) {
			for _, path := range p.imports(file) {
				for _, not := range []string{"sync", "log", "k8s.io", "github.com/go-logr", "github.com/prometheus",
					"github.com/nftproxy/nftproxy/proxier/cluster"} {
					if path == not || strings.HasPrefix(path, not+"/") {
						t.Errorf("%s, of the programmer, imports %s", file, path)
					}
				}
			}
		}
		return
	}
	t.Error("there is no package proxier")
}

// TestKernelIsSmall: a Kernel reads, writes and watches tables, and has them for itself. What only looks at what others have, or at
// what goes on, is package inspect's.
func TestKernelIsSmall(t *testing.T) {
	want := []string{
		"Apply", "Busy", "CanOwn", "Close", "Commit", "Own",
		"Read", "ReadListing", // ReadListing is Read as nft lists it, for dump
		"Remove", "Scan", "Watch",
	}
	for _, p := range product(t) {
		if p.path != "rules/kernel" {
			continue
		}
		var got []string
		for _, o := range p.info.Defs {
			f, ok := o.(*types.Func)
			if !ok || !f.Exported() {
				continue
			}
			if r := f.Signature().Recv(); r != nil && strings.HasSuffix(r.Type().String(), ".Kernel") {
				got = append(got, f.Name())
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("a Kernel has %v, want %v", got, want)
		}
		return
	}
	t.Error("there is no package rules/kernel")
}
