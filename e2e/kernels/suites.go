// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// suite is what runs in a guest under one name: the demo, or the tests of a package.
type suite struct {
	name  string
	dir   string   // of the package; of the program of the demo
	files []string // patterns of source files that the tests read, besides their package's testdata

	// asked suites run only where -suites names them: they are large, and no row of the table is theirs.
	asked bool
	only  string   // of these, which tests are meant, unless -suites says which; "": all
	needs []needed // programs, besides those that all need
	also  string   // the directory of a program that it runs, which gets the directory's name
}

// demo is the suite that is no test.
const demo = "demo"

// suites are all there are, in the order of the table.
func suites() []suite {
	return []suite{
		{name: demo, dir: "e2e/demo"},
		{name: "nfnetlink", dir: "nfnetlink"},
		{name: "nfnetlinktest", dir: "nfnetlink/nfnetlinktest"},
		{name: "conntrack", dir: "conntrack"},
		{name: "lock", dir: "lock"},
		{name: "kernel", dir: "rules/kernel", files: []string{"rules/*.go", "rules/testdata/*.nft"}},
		{name: "inspect", dir: "rules/inspect"},
		{name: "traffic", dir: "e2e/traffic"},
		{name: "packets", dir: "e2e/packets"},
		// The real kube-proxy in IPVS mode.
		{name: "ipvs", dir: "e2e/packets", asked: true, only: "^TestMigrationFromIPVS$", needs: []needed{{"ipset", "ipset"}}, also: "e2e/bench/kubeproxy"},
	}
}

func suiteOf(name string) (suite, bool) {
	all := suites()
	i := slices.IndexFunc(all, func(s suite) bool { return s.name == name })
	if i < 0 {
		return suite{}, false
	}
	return all[i], true
}

// part is a suite, and which of its tests are to run, as of go test -run.
type part struct {
	suite
	run string
}

// parseParts reads what -suites takes: names with commas between them, each with =REGEXP after it if not all of its tests are to
// run.
func parseParts(text, run string) ([]part, error) {
	var list []part
	for word := range strings.SplitSeq(text, ",") {
		name, only, some := strings.Cut(word, "=")
		s, ok := suiteOf(name)
		if !ok {
			var names []string
			for _, s := range suites() {
				names = append(names, s.name)
			}
			return nil, fmt.Errorf("-suites: there is no suite %q; there are %s", name, strings.Join(names, ", "))
		}
		if !some {
			only = run
			if s.only != "" {
				only = s.only
			}
		}
		if _, err := regexp.Compile(only); err != nil {
			return nil, fmt.Errorf("-suites: tests of %s: %w", name, err)
		}
		list = append(list, part{s, only})
	}
	return list, nil
}

func names(parts []part) []string {
	var list []string
	for _, p := range parts {
		list = append(list, p.name)
	}
	return list
}

// plan is what init.sh reads: a line for each part.
func plan(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%s %s %s\n", p.name, p.dir, p.run)
	}
	return b.String()
}

// build builds nftproxy and the parts, static, into a directory, and puts beside them what they read.
func build(ctx context.Context, dir, version string, parts []part) error {
	type command struct {
		dir  string // where it is run: some are modules of their own
		args []string
	}
	commands := []command{
		{"cmd/nftproxy", []string{"build", "-ldflags", "-s -w -X main.version=" + version, "-o", filepath.Join(dir, "nftproxy")}},
		{"e2e/kernels/slowness", []string{"build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "slowness")}},
	}
	for _, p := range parts {
		args := []string{"test", "-vet=off", "-c", "-ldflags", "-s -w", "-o", filepath.Join(dir, p.name+".test")}
		if p.name == demo {
			args = []string{"build", "-ldflags", "-s -w", "-o", filepath.Join(dir, demo)}
		}
		commands = append(commands, command{p.dir, args})
		if p.also != "" {
			commands = append(commands, command{p.also, []string{"build", "-ldflags", "-s -w", "-o", filepath.Join(dir, filepath.Base(p.also))}})
		}
	}
	for _, c := range commands {
		if _, err := output(ctx, c.dir, []string{"CGO_ENABLED=0"}, "go", c.args...); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if err := copySources(filepath.Join(dir, sourcesDir), p.suite); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "plan"), []byte(plan(parts)), 0o644) // ordinary users may read it, too
}

// sourcesDir is where tests in a guest find their files, and /t/_src there. `go test ./...` looks into no directory that begins
// with _, so that these are not taken for packages of the checkout.
const sourcesDir = "_src"

// copySources copies the testdata of a suite's package, and what else its tests read, to the same places below a directory.
func copySources(to string, s suite) error {
	if err := os.MkdirAll(filepath.Join(to, s.dir), 0o755); err != nil {
		return err
	}
	err := os.CopyFS(filepath.Join(to, s.dir, "testdata"), os.DirFS(filepath.Join(s.dir, "testdata")))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) { // another suite of the package has brought it
		return err
	}
	for _, pattern := range s.files {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("the tests of %s read %s: there is none", s.dir, pattern)
		}
		for _, f := range files {
			if err = copyFile(f, filepath.Join(to, f)); err != nil {
				return err
			}
		}
	}
	return nil
}
