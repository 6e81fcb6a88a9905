// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exceptions are over the limit still, by the kind's title. They may only get fewer.
var exceptions = map[string][]string{
	"fields in a struct":                           {},
	"methods on a type":                            {},
	"lines in a file":                              {},
	"lines in a function":                          {},
	"upward arrows between the files of a package": {},
}

func TestLimits(t *testing.T) {
	pkgs := product(t)
	for _, k := range kinds() {
		needed := map[string]bool{}
		for _, f := range measured(k, pkgs) {
			if f.n <= k.limit || !k.limited(f.name) {
				continue
			}
			needed[f.name] = true
			if !slices.Contains(exceptions[k.title], f.name) {
				t.Error(strings.Join(append([]string{fmt.Sprintf("%s: %d %s; the limit is %d", f.name, f.n, k.title, k.limit)}, f.why...), "\n\t"))
			}
		}
		for _, name := range exceptions[k.title] {
			if !needed[name] {
				t.Errorf("%s: it has not too many %s, or is gone: remove it from the exceptions", name, k.title)
			}
		}
	}
}

// loaded reads the whole module, once for all tests.
var loaded = sync.OnceValues(func() ([]pkg, error) { return load("../..", "./...") })

// product gives all packages of the module.
func product(t *testing.T) []pkg {
	t.Helper()
	pkgs, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	readDirectories(t, pkgs)
	return pkgs
}

// readDirectories makes go test see files that were added: it runs the test again only if what the
// test itself opened has changed.
func readDirectories(t *testing.T, pkgs []pkg) {
	t.Helper()
	for _, p := range pkgs {
		if _, err := os.ReadDir(filepath.Join("../..", p.path)); err != nil {
			t.Error(err)
		}
	}
}

func TestFigures(t *testing.T) {
	pkgs, err := load("testdata/small", "./...")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]figure{}
	for _, k := range kinds() {
		got[k.title] = measured(k, pkgs)
	}
	want := map[string][]figure{
		"fields in a struct": {{name: "inner.Box", n: 3}, {name: "inner._", n: 1}},
		"methods on a type":  {{name: "inner.Each", n: 3}, {name: "inner.Box", n: 2}},
		"lines in a file":    {{name: "inner/b.go", n: 19}, {name: "inner/a.go", n: 17}, {name: "inner/c.go", n: 5}},
		"lines in a function": {
			{name: "inner.Box.Get", n: 3}, {name: "inner.Box.Len", n: 1}, {name: "inner.size", n: 1},
		},
		"upward arrows between the files of a package": {
			{name: "inner", n: 1, why: []string{"b.go -> a.go: Box second"}},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(figure{})); diff != "" {
		t.Errorf("other figures (-want +got):\n%s", diff)
	}
}

func TestUpward(t *testing.T) {
	for _, c := range []struct {
		name, arrows string
		want         int
	}{
		{"no arrows", "", 0},
		{"a line", "a>b b>c a>c", 0},
		{"two users", "b>c a>c", 0},
		{"a circle of two", "a>b b>a", 1},
		{"a circle of four", "a>b b>c c>d d>a", 1},
		{"two circles through one arrow", "a>b b>c c>a b>d d>a", 1},
		{"two circles apart", "a>b b>a c>d d>c a>c", 2},
		{"each with each", "a>b b>a a>c c>a b>c c>b", 3},
		{"all report to one, which knows all", "a>z b>z c>z d>z z>a z>b z>c z>d", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := uses{}
			for _, a := range strings.Fields(c.arrows) {
				from, to, _ := strings.Cut(a, ">")
				all[arrow{from, to}] = nil
			}
			if got := upward(all); len(got) != c.want {
				t.Errorf("%d upward arrows, want %d: %v", len(got), c.want, got)
			}
		})
	}
}
