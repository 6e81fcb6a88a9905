// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLicences: each module that nftproxy links has a licence that is known and allowed, and its text is there.
func TestLicences(t *testing.T) {
	n, err := collect(t.Context(), checkout, []target{{"linux", "amd64"}})
	must(t, err)
	for module, want := range map[string]string{
		"github.com/nftproxy/nftproxy": "Apache-2.0", standard: "BSD-3-Clause", "github.com/google/nftables": "Apache-2.0",
		"github.com/mdlayher/netlink": "MIT", "sigs.k8s.io/yaml": "Apache-2.0 AND BSD-3-Clause AND MIT", "github.com/spf13/pflag": "BSD-3-Clause",
	} {
		if got := n.ids[module]; got != want {
			t.Errorf("%s: %q, want %q", module, got, want)
		}
	}
	text := string(n.text())
	for _, part := range []string{"github.com/mdlayher/netlink: MIT\n", "Matt Layher", "The Go Authors"} {
		if !strings.Contains(text, part) {
			t.Errorf("the text lacks %q", part)
		}
	}
	if strings.Count(text, "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION") > 12 {
		t.Error("one licence is there again and again")
	}
}

// TestForbidden: what nobody may link, or nobody knows, stops a release.
func TestForbidden(t *testing.T) {
	for name, tt := range map[string]struct{ file, text, want string }{
		"unknown": {"LICENSE", "You may do as your heart says.", "is no licence that is known"},
		"gpl": {"COPYING", "This program is free software; you can redistribute it and/or modify it under the terms of the GNU General Public License " +
			"as published by the Free Software Foundation; either version 2 of the License, or (at your option) any later version.", "not on the list"},
		"none":         {"README", "A library.", "has no licence"},
		"notice alone": {"NOTICE", "Made by somebody.", "has no licence"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.text), 0o600))
			files := map[string]bool{}
			must(t, linked{filepath.Join(dir), "some/module", dir}.licences(files))
			var paths []string
			for f := range files {
				paths = append(paths, f)
			}
			err := notices{map[string][]string{}, map[string]string{}}.add("some/module", paths)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestNearestLicences: files of a package's folder and of those above count, others do not.
func TestNearestLicences(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"LICENSE", "a/b/LICENSE.txt", "a/c/LICENSE", "a/b/license.go"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	files := map[string]bool{}
	must(t, linked{filepath.Join(dir, "a/b"), "m", dir}.licences(files))
	if len(files) != 2 || !files[filepath.Join(dir, "LICENSE")] || !files[filepath.Join(dir, "a/b/LICENSE.txt")] {
		t.Errorf("these count: %v", files)
	}
}
