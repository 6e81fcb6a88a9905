// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

const checkout = "../.."

// made builds the site, and returns its pages by name.
func made(t *testing.T) (dir string, pages map[string]*parsed) {
	t.Helper()
	dir = t.TempDir()
	if err := build(checkout, dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*.html")
	if err != nil {
		t.Fatal(err)
	}
	pages = map[string]*parsed{}
	for _, file := range files {
		pages[filepath.Base(file)] = parse(t, file)
	}
	return dir, pages
}

// parsed is what the tests look at of a page.
type parsed struct {
	size  int
	ids   []string
	links []string // href
	loads []string // src, srcset, style sheets
	names map[string]int
	title string
}

func parse(t *testing.T, file string) *parsed {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	p := &parsed{size: len(data), names: map[string]int{}}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		p.names[n.Data]++
		if n.Data == "title" {
			p.title = n.FirstChild.Data
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "id":
				p.ids = append(p.ids, a.Val)
			case a.Key == "href" && n.Data != "link":
				p.links = append(p.links, a.Val)
			case a.Key == "href" || a.Key == "src" || a.Key == "srcset":
				p.loads = append(p.loads, a.Val)
			}
		}
	}
	return p
}

// TestLinks: each link leads to a page and a heading that there are, or to a file of the repository that there is; what a page loads is
// part of the site.
func TestLinks(t *testing.T) {
	dir, pages := made(t)
	if len(pages) < 20 {
		t.Fatalf("%d pages", len(pages))
	}
	inside := 0
	for name, p := range pages {
		for _, to := range p.links {
			file, anchor, _ := strings.Cut(to, "#")
			of, known := pages[file]
			if file == "" {
				of, known = p, true
			}
			switch {
			case known && anchor != "" && !slices.Contains(of.ids, anchor):
				t.Errorf("%s: %s has no such heading", name, to)
			case known:
				inside++
			case strings.HasPrefix(to, repository+"/"):
				for _, kind := range []string{"/blob/main/", "/tree/main/"} {
					if in, ok := strings.CutPrefix(file, repository+kind); ok {
						if info, err := os.Stat(filepath.Join(checkout, in)); err != nil || info.IsDir() != (kind == "/tree/main/") {
							t.Errorf("%s: %s: %v", name, to, err)
						}
					}
				}
			case !strings.HasPrefix(to, "https://") && !strings.HasPrefix(to, "http://"):
				t.Errorf("%s: %s leads nowhere", name, to)
			}
		}
		for _, what := range p.loads {
			if _, err := os.Stat(filepath.Join(dir, what)); err != nil || strings.Contains(what, "..") {
				t.Errorf("%s loads %s: %v", name, what, err)
			}
		}
	}
	if inside < 400 {
		t.Errorf("%d links inside of the site: they are not found", inside)
	}
}

// TestPages: each page of docs, and each beside the README, is in the menu; a page has one heading of the first rank, a title of its own, no
// script, and is light.
func TestPages(t *testing.T) {
	dir, pages := made(t)
	listed := map[string]bool{}
	for _, part := range menu {
		for _, e := range part.Entries {
			listed[e.Source] = true
			if _, ok := pages[fileOf(e.Source)]; !ok {
				t.Errorf("%s has no page", e.Source)
			}
		}
	}
	if len(pages) != len(listed) {
		t.Errorf("%d pages of %d files: two have one name", len(pages), len(listed))
	}
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*.md"} {
		files, err := filepath.Glob(filepath.Join(checkout, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if name := path.Join(path.Dir(pattern), filepath.Base(f)); !listed[name] {
				t.Errorf("%s is not in the menu", name)
			}
		}
	}
	titles := map[string]string{}
	for name, p := range pages {
		if other, ok := titles[p.title]; ok || p.title == "" {
			t.Errorf("%s and %s have the title %q", name, other, p.title)
		}
		titles[p.title] = name
		if p.names["h1"] != 1 || p.names["script"]+p.names["iframe"] > 0 || p.names["main"] != 1 || p.names["nav"] != 1 {
			t.Errorf("%s has %v", name, p.names)
		}
		if p.size > 100_000 {
			t.Errorf("%s has %d bytes", name, p.size)
		}
	}
	if info, err := os.Stat(dir + "/style.css"); err != nil || info.Size() > 8_000 {
		t.Errorf("the style sheet: %v, %v", info, err)
	}
}

// TestReadme: the page to be looked at has the README's parts.
func TestReadme(t *testing.T) {
	file := filepath.Join(t.TempDir(), "readme.html")
	if err := writeReadme(checkout, file); err != nil {
		t.Fatal(err)
	}
	if p := parse(t, file); p.names["h1"] != 1 || p.names["table"] < 2 || p.names["picture"] != 2 || !slices.Contains(p.ids, "beside-others") {
		t.Errorf("it has %v, %q", p.names, p.ids)
	}
}
