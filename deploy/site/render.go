// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
)

//go:embed page.html
var pageTemplate string

//go:embed style.css
var style []byte

//go:embed github.css
var githubStyle string

func lower(s string) string { return strings.ToLower(s) }

// site is what is known of all pages.
type site struct {
	root     string
	pages    []page
	bySource map[string]page
	pictures map[string]bool // paths in the checkout, which are those in the site
	template *template.Template
}

// page is one Markdown file.
type page struct {
	source string // its path in the checkout
	title  string // in the menu
	file   string // its name in the site
	text   []byte
}

// load reads the pages of the menu.
func load(root string) (*site, error) {
	s := &site{root: root, bySource: map[string]page{}, pictures: map[string]bool{}}
	for _, part := range menu {
		for _, e := range part.Entries {
			data, err := os.ReadFile(filepath.Join(root, e.Source))
			if err != nil {
				return nil, err
			}
			p := page{e.Source, e.Title, fileOf(e.Source), data}
			s.pages, s.bySource[e.Source] = append(s.pages, p), p
		}
	}
	var err error
	s.template, err = template.New("page").Funcs(template.FuncMap{"file": fileOf}).Parse(pageTemplate)
	return s, err
}

// heading is a part of a page that the menu shows.
type heading struct{ ID, Text string }

// render makes a page.
func (s *site) render(p page) ([]byte, error) {
	md := markdown()
	doc := md.Parser().Parse(text.NewReader(p.text), parser.WithContext(parser.NewContext(parser.WithIDs(&githubIDs{}))))
	var headings []heading
	err := ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Link:
			file, _, _ := strings.Cut(string(n.Destination), "#")
			if to, ok := s.bySource[path.Join(path.Dir(p.source), file)]; ok && strings.HasSuffix(plain(n, p.text), ".md") { // the file's name is none here
				n.RemoveChildren(n)
				n.AppendChild(n, ast.NewString([]byte(to.title)))
			}
			n.Destination = []byte(s.link(p, string(n.Destination)))
		case *ast.Image:
			n.Destination = []byte(s.link(p, string(n.Destination)))
		case *ast.Heading:
			if id, ok := n.AttributeString("id"); ok && n.Level == 2 {
				headings = append(headings, heading{string(id.([]byte)), plain(n, p.text)})
			}
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := md.Renderer().Render(&body, p.text, doc); err != nil {
		return nil, err
	}
	inHTML := regexp.MustCompile(`\b(src|srcset|href)="([^"]+)"`)
	html := inHTML.ReplaceAllStringFunc(body.String(), func(a string) string {
		m := inHTML.FindStringSubmatch(a)
		if m[1] == "href" { // those of Markdown, which are done
			return a
		}
		return fmt.Sprintf(`%s="%s"`, m[1], s.link(p, m[2]))
	})
	var out bytes.Buffer
	err = s.template.Execute(&out, map[string]any{
		"Page": p.title, "Source": p.source, "Menu": menu, "Headings": headings, "Edit": repository + "/blob/main/" + p.source, "Repository": repository,
		"Body": template.HTML(html), // the repository's own text
	})
	return out.Bytes(), err
}

// link returns where a link of a page leads in the site.
func (s *site) link(p page, to string) string {
	if strings.Contains(to, "://") || strings.HasPrefix(to, "#") || strings.HasPrefix(to, "mailto:") {
		return to
	}
	file, anchor, hasAnchor := strings.Cut(to, "#")
	if hasAnchor {
		anchor = "#" + anchor
	}
	in := path.Join(path.Dir(p.source), file)
	if other, ok := s.bySource[in]; ok {
		return other.file + anchor
	}
	if _, ok := s.pictures[to]; ok { // done already
		return to
	}
	switch path.Ext(in) {
	case ".svg", ".png":
		s.pictures[in] = true
		return in
	}
	kind := "blob"
	if info, err := os.Stat(filepath.Join(s.root, in)); err == nil && info.IsDir() {
		kind = "tree"
	}
	return repository + "/" + kind + "/main/" + in + anchor
}

// markdown reads what GitHub reads.
func markdown() goldmark.Markdown {
	return goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()),
		goldmark.WithRendererOptions(html.WithUnsafe())) // the repository's own text has <picture>
}

// plain is the text of a node.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// githubIDs names headings as GitHub does.
type githubIDs struct{ used map[string]int }

func (g *githubIDs) Generate(value []byte, _ ast.NodeKind) []byte {
	if g.used == nil {
		g.used = map[string]int{}
	}
	id := regexp.MustCompile(`[^\p{L}\p{N}\-_ ]`).ReplaceAllString(strings.TrimSpace(string(value)), "")
	id = strings.ReplaceAll(strings.ToLower(id), " ", "-")
	n := g.used[id]
	g.used[id]++
	if n > 0 {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	return []byte(id)
}

func (g *githubIDs) Put(value []byte) {
	if g.used == nil {
		g.used = map[string]int{}
	}
	g.used[string(value)]++
}

// writeReadme writes the README as GitHub would show it, with its pictures where they are in the checkout.
func writeReadme(root, file string) error {
	data, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return err
	}
	root, err = filepath.Abs(root)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if err := markdown().Convert(data, &body, parser.WithContext(parser.NewContext(parser.WithIDs(&githubIDs{})))); err != nil {
		return err
	}
	page := fmt.Sprintf("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><base href='file://%s/'><title>README</title><style>%s</style><article>%s</article>",
		root, githubStyle, body.Bytes())
	return write(filepath.Dir(file), filepath.Base(file), []byte(page))
}
