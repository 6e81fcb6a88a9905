// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the text of each of the repository's pages for users, by its path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	const root = "../../.."
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no such page (%v)", pattern, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			must(t, err)
			name, err := filepath.Rel(root, f)
			must(t, err)
			out[name] = string(text)
		}
	}
	return out
}

// TestDocumentedCommands: each nftproxy that a page has somebody type is one that the program takes.
func TestDocumentedCommands(t *testing.T) {
	commands := 0
	for page, text := range documents(t) {
		for _, line := range typed(text) {
			commands++
			if err := parses(strings.Fields(line)); err != nil {
				t.Errorf("%s: nftproxy %s: %v", page, line, err)
			}
		}
	}
	if commands < 20 {
		t.Errorf("the pages have %d commands: they are not found", commands)
	}
}

var (
	prompted = regexp.MustCompile(`(?m)^    [$#] (?:\S*/)?nftproxy ([^|&;#>\n]*)`)
	inBlock  = regexp.MustCompile(`(?m)^    \s*(?:\S*/)?nftproxy ((?:run|dump|diff|compare|explain|trace|top|check|cleanup|version|completion|get|describe)\b[^|&;#>\n]*)`)
	inText   = regexp.MustCompile("`(?:bin/)?nftproxy ((?:run|dump|diff|compare|explain|trace|top|check|cleanup|version|completion)\\b[^`]*)`")
)

// typed returns the arguments of each nftproxy in a page.
func typed(text string) (out []string) {
	for _, r := range []*regexp.Regexp{prompted, inBlock, inText} {
		for _, m := range r.FindAllStringSubmatch(text, -1) {
			out = append(out, strings.NewReplacer(`""`, "NOTHING", "...", "", "'", "", `"`, "", "$DIR", "/dir", "\n", " ").Replace(m[1]))
		}
	}
	return out
}

// parses says whether the program takes arguments.
func parses(args []string) error {
	root := rootCommand("v1.2.3", nil)
	root.InitDefaultCompletionCmd(args...)
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if cmd.Args == nil || cmd.Flags().NArg() == 0 {
		return nil // some are named without their operand
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// TestDocumentedLinks: each link of a page to another, or to a heading, leads somewhere.
func TestDocumentedLinks(t *testing.T) {
	pages := documents(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"`)
	for page, text := range pages {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := m[1] + m[2]
			if strings.Contains(target, "://") {
				continue
			}
			if err := leads(pages, page, target); err != nil {
				t.Errorf("%s: link to %s: %v", page, target, err)
			}
		}
	}
}

// leads says whether a link of a page leads somewhere.
func leads(pages map[string]string, page, target string) error {
	file, heading, _ := strings.Cut(target, "#")
	to := page
	if file != "" {
		to = filepath.Join(filepath.Dir(page), file)
	}
	if _, err := os.Stat(filepath.Join("../../..", to)); err != nil {
		return err
	}
	if heading != "" && !slices.Contains(headings(pages[to]), heading) {
		return fmt.Errorf("%s has no such heading", to)
	}
	return nil
}

// headings returns the anchors that a page has, as GitHub makes them.
func headings(text string) (out []string) {
	odd := regexp.MustCompile(`[^\p{L}\p{N}\- ]`)
	for line := range strings.Lines(text) {
		if title := strings.TrimLeft(line, "#"); title != line {
			out = append(out, strings.ReplaceAll(strings.ToLower(odd.ReplaceAllString(strings.TrimSpace(title), "")), " ", "-"))
		}
	}
	return out
}

// TestFirstPage: who opens the README sees all of it without much scrolling.
func TestFirstPage(t *testing.T) {
	if n := strings.Count(documents(t)["README.md"], "\n"); n > 150 {
		t.Errorf("README.md has %d lines, more than 150", n)
	}
}
