// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// picture is an SVG picture.
type picture struct {
	strings.Builder
	width, height int
}

// colours are told apart by all, on white and on black.
var colours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"}

const grey = "#808080"

func newPicture(width, height int, title string) *picture {
	p := &picture{width: width, height: height}
	p.text(10, 20, "start", 14, title)
	return p
}

func (p *picture) text(x, y float64, anchor string, size int, text string) {
	fmt.Fprintf(p, "<text x='%.1f' y='%.1f' text-anchor='%s' font-size='%d' fill='%s'>%s</text>\n", x, y, anchor, size, grey, text)
}

func (p *picture) rect(x, y, width, height float64, colour string) {
	fmt.Fprintf(p, "<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>\n", x, y, width, height, colour)
}

func (p *picture) line(points [][2]float64, colour string, width float64) {
	var list []string
	for _, at := range points {
		list = append(list, fmt.Sprintf("%.1f,%.1f", at[0], at[1]))
	}
	fmt.Fprintf(p, "<polyline points='%s' fill='none' stroke='%s' stroke-width='%.1f'/>\n", strings.Join(list, " "), colour, width)
}

func (p *picture) circle(x, y, r float64, colour string) {
	fmt.Fprintf(p, "<circle cx='%.1f' cy='%.1f' r='%.1f' fill='%s'/>\n", x, y, r, colour)
}

// write writes the picture into a directory.
func (p *picture) write(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d' font-family='sans-serif'>\n%s</svg>\n",
		p.width, p.height, p.width, p.height, p.String())
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
}
