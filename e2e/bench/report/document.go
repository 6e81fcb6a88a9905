// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// Document is a report on a run that is not a comparison: it looks like the benchmark's, with
// plots over time.
type Document struct {
	Title    string
	Facts    []Fact
	Chapters []Chapter
}

// Fact is a line at the beginning, such as the machine.
type Fact struct{ Name, Text string }

// Chapter is a heading and what there is below it, in the order of the fields. Empty ones are left out.
type Chapter struct {
	Title   string
	Text    string
	Plots   []TimePlot
	Columns []string // names; the first one's cells are to the left
	Rows    []Row
	// Verbatim is text whose lines stay as they are, such as a log.
	Verbatim string
}

// Row is a row of a table. A bad one stands out.
type Row struct {
	Cells []string
	Bad   bool
}

// TimePlot is a plot over the minutes of a run.
type TimePlot struct {
	Name  string // of its files
	Title string
	Unit  string // of the values, as in Metric
	Lines []TimeLine
	// Marks are minutes at which something happened, which MarkName names in the legend.
	Marks    []float64
	MarkName string
}

// TimeLine is a line of a TimePlot. A bound is dashed.
type TimeLine struct {
	Name    string
	Minutes []float64
	Values  []float64 // as many
	Bound   bool
}

// drawnChapter is a chapter whose plots are pictures.
type drawnChapter struct {
	Chapter
	Plots []picture
}

// WriteDocument makes the page of a document and the files of its plots, in both themes, in the folder.
func WriteDocument(dir string, d Document) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	var chapters []drawnChapter
	for _, c := range d.Chapters {
		drawn := drawnChapter{Chapter: c}
		for _, p := range c.Plots {
			onPage, err := p.write(dir)
			if err != nil {
				return err
			}
			drawn.Plots = append(drawn.Plots, onPage)
		}
		chapters = append(chapters, drawn)
	}
	out := &bytes.Buffer{}
	err := pageTemplates.ExecuteTemplate(out, "document.html", struct {
		Document
		Chapters []drawnChapter
	}{d, chapters})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "index.html"), out.Bytes(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// write makes the plot's files, and returns it as it is on the page.
func (p TimePlot) write(dir string) (picture, error) {
	var out picture
	for _, t := range themes() {
		text, err := p.draw(t).svg()
		if err != nil {
			return out, fmt.Errorf("draw %s: %w", p.Name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, fileName(p.Name, t)), text, 0o644); err != nil {
			return out, fmt.Errorf("write report: %w", err)
		}
		if t.suffix == "" {
			out = picture{p.Title, template.HTML(onPage.Replace(string(text)))}
		}
	}
	return out, nil
}

func (p TimePlot) draw(t theme) *figure {
	f := newFigure(t, "minutes", "")
	for i, l := range p.Lines {
		f.curve(l, colorOf(append(Peers(), Floor)[i%4]))
	}
	f.Y.Min = 0
	f.Y.Max *= 1.05
	if f.Y.Max <= 0 {
		f.Y.Max = 1
	}
	f.X.Min = 0
	if f.X.Max <= 0 {
		f.X.Max = 1
	}
	f.Y.Tick.Marker = plain(p.Unit)
	f.marks(p.MarkName, p.Marks)
	return f
}

// curve adds a line without glyphs.
func (f *figure) curve(l TimeLine, c color.Color) {
	var points plotter.XYs
	for i, x := range l.Minutes {
		points = append(points, plotter.XY{X: x, Y: l.Values[i]})
	}
	if len(points) == 0 {
		return
	}
	line, err := plotter.NewLine(points)
	if !f.check(err) {
		return
	}
	line.Color, line.Width = c, 1.6
	if l.Bound {
		line.Dashes, line.Width = []vg.Length{5, 4}, 1.2
	}
	f.Add(line)
	f.entry(l.Name, line)
}

// marks adds vertical lines, as high as the plot is so far.
func (f *figure) marks(name string, at []float64) {
	for i, x := range at {
		line, err := plotter.NewLine(plotter.XYs{{X: x, Y: f.Y.Min}, {X: x, Y: f.Y.Max}})
		if !f.check(err) {
			return
		}
		line.Color, line.Width, line.Dashes = colorOf(""), 1, []vg.Length{2, 3}
		f.Add(line)
		if i == 0 {
			f.entry(name, line)
		}
	}
}

// Number writes a figure with its unit as the report does: with three digits that count, and commas
// between thousands.
func Number(v float64, unit string) string { return value(v, unit) }
