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

// TestDocumentedCommands: each nftproxy that a page has somebody type is one that the program takes, and each kubectl nftproxy one that the
// plugin takes.
func TestDocumentedCommands(t *testing.T) {
	commands, find := 0, newFinder()
	for page, text := range documents(t) {
		for _, c := range find.typed(text) {
			commands++
			if err := parses(c.args, c.plugin); err != nil {
				t.Errorf("%s: nftproxy %s: %v", page, c.args, err)
			}
		}
	}
	if commands < 90 {
		t.Errorf("the pages have %d commands: they are not found", commands)
	}
}

// finder finds commands of the program in a page. Those that its root has are known, so that no list has to follow it.
type finder struct{ any, known []*regexp.Regexp }

// typedNftproxy is a command line of the program's, without its name.
type typedNftproxy struct {
	args   string
	plugin bool
}

func newFinder() finder {
	root := rootCommand("v1.2.3", nil)
	root.InitDefaultCompletionCmd("completion")
	var names []string
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	one := `((?:` + strings.Join(names, "|") + `)\b`
	return finder{
		any: []*regexp.Regexp{regexp.MustCompile(`(?m)^    [$#] (kubectl )?(?:\S*/)?nftproxy ([^|&;#>\n]*)`)},
		known: []*regexp.Regexp{
			regexp.MustCompile(`(?m)^    \s*(kubectl )?(?:\S*/)?nftproxy ` + one + `[^|&;#>\n]*)`),
			regexp.MustCompile(`(?m)( -- )/nftproxy ` + one + `[^|&;#>\n` + "`" + `]*)`),
			regexp.MustCompile("`(kubectl )?(?:bin/)?nftproxy " + one + "[^`|]*)"),
		},
	}
}

func (f finder) typed(text string) (out []typedNftproxy) {
	plain := strings.NewReplacer(`""`, "NOTHING", "...", "", "'", "", `"`, "", "$DIR", "/dir", "\n", " ", `\`, "")
	for _, r := range slices.Concat(f.any, f.known) {
		for _, m := range r.FindAllStringSubmatch(text, -1) {
			out = append(out, typedNftproxy{plain.Replace(m[2]), m[1] == "kubectl "})
		}
	}
	return out
}

// parses says whether the program takes arguments.
func parses(line string, plugin bool) error {
	args := strings.Fields(line)
	root := rootCommand("v1.2.3", nil)
	if plugin {
		asPlugin(root)
	}
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
