// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"regexp"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// theme is what differs between a light and a dark page.
type theme struct {
	suffix    string // of file names
	ink, grid color.Color
}

func themes() []theme {
	return []theme{
		{"", color.RGBA{0x33, 0x33, 0x33, 0xff}, color.RGBA{0xdd, 0xdd, 0xdd, 0xff}},
		{"-dark", color.RGBA{0xd5, 0xd5, 0xd5, 0xff}, color.RGBA{0x44, 0x44, 0x44, 0xff}},
	}
}

// colorOf returns that of a peer: apart for colour-blind eyes, and readable on light and dark.
func colorOf(peer string) color.Color {
	switch peer {
	case Nftproxy:
		return color.RGBA{0x2a, 0x86, 0xd1, 0xff}
	case KubeProxyNftables:
		return color.RGBA{0xe0, 0x8a, 0x00, 0xff}
	case KubeProxyIptables:
		return color.RGBA{0xc4, 0x60, 0x9a, 0xff}
	}
	return color.RGBA{0x88, 0x88, 0x88, 0xff}
}

// shapeOf returns the glyph of a peer.
func shapeOf(peer string) draw.GlyphDrawer {
	switch peer {
	case Nftproxy:
		return draw.CircleGlyph{}
	case KubeProxyNftables:
		return draw.BoxGlyph{}
	case KubeProxyIptables:
		return draw.PyramidGlyph{}
	}
	return draw.CrossGlyph{}
}

const (
	width, height = 6 * vg.Inch, 4 * vg.Inch
	textSize      = 13
	legendRow     = 22 // height
)

// figure is a plot in one theme, with its legend above it.
type figure struct {
	*plot.Plot
	theme
	legend []plot.Legend // of one entry each
	err    error         // the first
}

func newFigure(t theme, x, y string) *figure {
	f := &figure{Plot: plot.New(), theme: t}
	f.BackgroundColor = nil
	f.X.Label.Text, f.Y.Label.Text = x, y
	for _, a := range []*plot.Axis{&f.X, &f.Y} {
		a.Color, a.Tick.Color, a.Label.TextStyle.Color, a.Tick.Label.Color = t.ink, t.ink, t.ink, t.ink
		for _, style := range []*draw.TextStyle{&a.Label.TextStyle, &a.Tick.Label} {
			style.Font.Size, style.Font.Variant = textSize, "Sans"
		}
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = t.grid, t.grid
	f.Add(grid)
	return f
}

// entry adds a name to the legend.
func (f *figure) entry(name string, thumbs ...plot.Thumbnailer) {
	l := plot.NewLegend()
	l.TextStyle.Color, l.TextStyle.Font.Size, l.TextStyle.Font.Variant = f.ink, textSize, "Sans"
	l.Top, l.Left, l.ThumbnailWidth = true, true, 18
	l.Add(name, thumbs...)
	f.legend = append(f.legend, l)
}

// check keeps the first error.
func (f *figure) check(err error) bool {
	if f.err == nil {
		f.err = err
	}
	return err == nil
}

// line adds a line of a peer; dashed ones have no entry in the legend.
func (f *figure) line(peer string, points plotter.XYs, dashed bool) {
	if len(points) == 0 {
		return
	}
	line, glyphs, err := plotter.NewLinePoints(points)
	if !f.check(err) {
		return
	}
	line.Color, line.Width = colorOf(peer), 2.2
	glyphs.Color, glyphs.Shape, glyphs.Radius = colorOf(peer), shapeOf(peer), 4
	if dashed {
		line.Dashes, line.Width = []vg.Length{5, 4}, 1.4
		glyphs.Radius = 2.5
	}
	f.Add(line, glyphs)
	if !dashed {
		f.entry(peer, line, glyphs)
	}
}

// bars adds groups of bars, a bar for each peer. One without samples is not there, and says so.
func (f *figure) bars(peers, groups []string, get func(peer string, group int) (height float64, label string, ok bool)) {
	const room = 0.84
	each := room / float64(len(peers))
	labels := plotter.XYLabels{}
	for i, peer := range peers {
		for g := range groups {
			at := float64(g) - room/2 + each*(float64(i)+0.5)
			height, label, ok := get(peer, g)
			if !ok {
				height, label = 0, "none"
			}
			labels.XYs = append(labels.XYs, plotter.XY{X: at, Y: height})
			labels.Labels = append(labels.Labels, label)
			if ok {
				f.box(peer, at-each*0.46, at+each*0.46, height)
			}
		}
		f.entry(peer, swatch{colorOf(peer)})
	}
	f.labels(labels)
	f.NominalX(groups...)
	f.X.Min, f.X.Max = -0.5, float64(len(groups))-0.5
	f.X.Tick.Length = 0
	f.Y.Min = 0
	f.Y.Max *= 1.08 // for the labels
}

// box adds a filled rectangle that stands on the X axis.
func (f *figure) box(peer string, left, right, height float64) {
	p, err := plotter.NewPolygon(plotter.XYs{{X: left, Y: 0}, {X: left, Y: height}, {X: right, Y: height}, {X: right, Y: 0}})
	if !f.check(err) {
		return
	}
	p.Color, p.Width = colorOf(peer), 0
	f.Add(p)
}

func (f *figure) labels(at plotter.XYLabels) {
	l, err := plotter.NewLabels(at)
	if !f.check(err) {
		return
	}
	for i := range l.TextStyle {
		s := &l.TextStyle[i]
		s.Color, s.Font.Size, s.Font.Variant = f.ink, 11, "Sans"
		s.XAlign, s.YAlign = draw.XCenter, draw.YBottom
	}
	l.Offset.Y = 2
	f.Add(l)
}

// swatch is a coloured square for the legend.
type swatch struct{ color.Color }

// Thumbnail implements plot.Thumbnailer.
func (s swatch) Thumbnail(c *draw.Canvas) {
	c.FillPolygon(s.Color, c.ClipPolygonXY([]vg.Point{
		{X: c.Min.X, Y: c.Min.Y}, {X: c.Min.X, Y: c.Max.Y}, {X: c.Max.X, Y: c.Max.Y}, {X: c.Max.X, Y: c.Min.Y}}))
}

// fonts is the family that the plot library writes.
var fonts = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;`)

// opening is all before the picture: the library's XML declaration, comment and size in points.
var opening = regexp.MustCompile(`(?s)^.*?<svg[^>]*?viewBox="([^"]*)"[^>]*>`)

// svg draws it.
func (f *figure) svg() ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	canvas := vgsvg.New(width, height)
	all := draw.New(canvas)
	top := f.drawLegend(all)
	f.Draw(draw.Crop(all, 0, -8, 0, -top))
	out := &bytes.Buffer{}
	if _, err := canvas.WriteTo(out); err != nil {
		return nil, err
	}
	text := fonts.ReplaceAll(out.Bytes(), []byte("font-family:system-ui,sans-serif;"))
	return opening.ReplaceAll(text, []byte(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="$1" role="img">`)), nil
}

// drawLegend writes the entries one after another, in as many rows as it takes, and
// returns their height.
func (f *figure) drawLegend(c draw.Canvas) vg.Length {
	const gap = 26 // a reader's font may be wider than the one measured
	left, top := vg.Length(0), vg.Length(0)
	for _, l := range f.legend {
		size := l.Rectangle(c).Size()
		if left > 0 && left+size.X > width {
			left, top = 0, top+legendRow
		}
		l.Draw(draw.Crop(c, left, 0, 0, -top))
		left += size.X + gap
	}
	return top + legendRow
}

// decades are ticks at powers of ten, with smaller ones between, for a logarithmic axis.
func decades(unit string) plot.TickerFunc {
	return func(low, high float64) []plot.Tick {
		var out []plot.Tick
		for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
			out = append(out, plot.Tick{Value: math.Pow(10, e), Label: value(math.Pow(10, e), unit)})
			for m := 2.0; m < 10; m++ {
				out = append(out, plot.Tick{Value: m * math.Pow(10, e)})
			}
		}
		return out
	}
}

// sizes are ticks at numbers of Services.
func sizes(list []int) plot.ConstantTicks {
	var out plot.ConstantTicks
	for _, n := range list {
		out = append(out, plot.Tick{Value: float64(n), Label: count(n)})
	}
	return out
}

// plain are the usual ticks, with commas and a unit.
func plain(unit string) plot.TickerFunc {
	return func(low, high float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(low, high)
		for i := range ticks {
			if ticks[i].Label != "" {
				ticks[i].Label = value(ticks[i].Value, unit)
			}
		}
		return ticks
	}
}

// logarithmic makes both axes so, over sizes.
func (f *figure) logarithmic(list []int, unit string) {
	f.X.Scale, f.Y.Scale = plot.LogScale{}, plot.LogScale{}
	f.X.Tick.Marker, f.Y.Tick.Marker = sizes(list), decades(unit)
	f.Y.Min = math.Pow(10, math.Floor(math.Log10(f.Y.Min)))
	f.Y.Max = math.Pow(10, math.Ceil(math.Log10(f.Y.Max)))
}

// fileName is that of a plot in a theme.
func fileName(name string, t theme) string { return fmt.Sprintf("%s%s.svg", name, t.suffix) }
