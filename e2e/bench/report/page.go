// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed *.html
var pageTexts embed.FS

// pageTemplates are page.html, document.html, and what both have.
var pageTemplates = template.Must(template.New("").Funcs(template.FuncMap{
	"count": count, "where": where, "sentence": sentence,
}).ParseFS(pageTexts, "*.html"))

// page is what the template shows.
type page struct {
	*Results
	Headlines []line
	Behind    []string
	Failover  []line
	Groups    []group
	Programs  []string // name and version
}

type line struct {
	Title, Size string
	Cells       []string
}

type group struct {
	Name     string
	Sections []section
}

// section is a metric with its table and plots.
type section struct {
	table
	Plots []picture
}

// picture is a plot, in the page's own colours.
type picture struct {
	Title string
	SVG   template.HTML // our own
}

// onPage replaces the colours of the light theme by those that follow the page's.
var onPage = strings.NewReplacer("#333333", "currentColor", "#DDDDDD", "var(--edge)")

// Write makes the page, the summary and the plots of a run in the folder.
func Write(dir string, r *Results) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	pictures, err := writePlots(dir, r)
	if err != nil {
		return err
	}
	text, err := html(r, pictures)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"index.html": text, "summary.md": []byte(summary(r))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	return nil
}

// writePlots makes the files of all plots that have something to show, and
// removes older ones of the others. It returns them by metric.
func writePlots(dir string, r *Results) (map[string][]picture, error) {
	out := map[string][]picture{}
	for _, d := range drawings() {
		for _, t := range themes() {
			file := filepath.Join(dir, fileName(d.name, t))
			f := d.draw(r, t)
			if f == nil {
				_ = os.Remove(file)
				continue
			}
			text, err := f.svg()
			if err != nil {
				return nil, fmt.Errorf("draw %s: %w", file, err)
			}
			if err := os.WriteFile(file, text, 0o644); err != nil {
				return nil, fmt.Errorf("write report: %w", err)
			}
			if t.suffix == "" {
				out[d.metric] = append(out[d.metric], picture{d.title, template.HTML(onPage.Replace(string(text)))})
			}
		}
	}
	return out, nil
}

// html makes the page.
func html(r *Results, pictures map[string][]picture) ([]byte, error) {
	p := page{Results: r, Behind: r.behind(), Failover: r.failoverRows()}
	for _, h := range headlines() {
		if size, cells := r.headlineRow(h); size != 0 {
			p.Headlines = append(p.Headlines, line{h.title, plural(size, "Service"), cells})
		}
	}
	for _, name := range groups() {
		g := group{Name: name}
		for _, t := range r.tables(name) {
			g.Sections = append(g.Sections, section{t, pictures[t.Metric.Name]})
		}
		if len(g.Sections) > 0 {
			p.Groups = append(p.Groups, g)
		}
	}
	for name, version := range r.Machine.Programs {
		p.Programs = append(p.Programs, name+": "+version)
	}
	slices.Sort(p.Programs)
	out := &bytes.Buffer{}
	if err := pageTemplates.ExecuteTemplate(out, "page.html", p); err != nil {
		return nil, fmt.Errorf("write page: %w", err)
	}
	return out.Bytes(), nil
}

// sentence begins with a capital.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// Date is when the run began.
func (p page) Date() string { return p.Began.Format("2 January 2006, 15:04 MST") }

// Length is how long it took.
func (p page) Length() string { return p.Took.Round(time.Second).String() }

// Peers are the columns of the first table.
func (p page) Peers() []string { return Peers() }

// Failed lists the failures, those with the same error once.
func (p page) Failed() []Failure {
	var out []Failure
	for _, f := range p.Failures {
		same := func(o Failure) bool { return o.Peer == f.Peer && o.Services == f.Services && o.Step == f.Step }
		if !slices.ContainsFunc(out, same) {
			out = append(out, f)
		}
	}
	return out
}
