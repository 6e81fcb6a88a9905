// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
)

// repository is where links lead to files that the site does not have.
const repository = "https://github.com/nftproxy/nftproxy"

func main() {
	root := flag.String("root", "../..", "the checkout")
	out := flag.String("out", "", "the directory that becomes the site")
	readme := flag.String("readme", "", "write only the README to this file, in a page as GitHub has it, to be looked at")
	flag.Parse()
	var err error
	switch {
	case flag.NArg() > 0 || (*out == "") == (*readme == ""):
		err = errors.New("wants -out DIRECTORY or -readme FILE, and no argument")
	case *readme != "":
		err = writeReadme(*root, *readme)
	default:
		err = build(*root, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

// build makes the site of a checkout.
func build(root, out string) error {
	s, err := load(root)
	if err != nil {
		return err
	}
	for _, p := range s.pages {
		html, err := s.render(p)
		if err != nil {
			return fmt.Errorf("render %s: %w", p.source, err)
		}
		if err := write(out, p.file, html); err != nil {
			return err
		}
	}
	for name := range s.pictures {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			err = write(out, name, data)
		}
		if err != nil {
			return fmt.Errorf("copy a picture: %w", err)
		}
	}
	return write(out, "style.css", style)
}

func write(dir, name string, data []byte) error {
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// menu is what the pages are called and in which order they are shown. The first part has no title.
var menu = []part{
	{"", []entry{{"README.md", "nftproxy"}, {"docs/demo.md", "Demo"}}},
	{"Use", []entry{
		{"deploy/README.md", "Install and migrate"}, {"docs/distributions.md", "Distributions"}, {"docs/from-ipvs.md", "From IPVS"}, {"docs/beside-cilium.md", "Beside Cilium"},
		{"docs/features.md", "Features and limits"}, {"docs/schedulers.md", "Schedulers"}, {"docs/failover.md", "Failover"}, {"docs/operations.md", "Operations"},
		{"docs/commands.md", "Commands"}, {"docs/ui.md", "A page to look at"}, {"docs/api.md", "The socket's API"},
	}},
	{"When something is wrong", []entry{{"docs/troubleshooting.md", "Troubleshooting"}, {"docs/runbooks.md", "Runbooks"}}},
	{"How good it is", []entry{
		{"docs/how-it-works.md", "How it works"}, {"docs/performance.md", "Performance"}, {"docs/reliability.md", "Reliability"},
		{"docs/conformance.md", "Conformance"}, {"docs/security.md", "Security"},
	}},
	{"Project", []entry{
		{"CHANGELOG.md", "Changes"}, {"docs/versioning.md", "Versions and releases"}, {"CONTRIBUTING.md", "Contributing"}, {"SECURITY.md", "Report a fault"},
		{"GOVERNANCE.md", "Governance"},
	}},
}

type part struct {
	Title   string
	Entries []entry
}

type entry struct{ Source, Title string }

// fileOf is where the page of a Markdown file is.
func fileOf(source string) string {
	switch source {
	case "README.md":
		return "index.html"
	case "deploy/README.md":
		return "install.html"
	case "SECURITY.md": // docs/security.md is the threat model
		return "report.html"
	}
	name := path.Base(source)
	return lower(name[:len(name)-len(".md")]) + ".html"
}
