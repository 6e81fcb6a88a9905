// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/internal/golden"
)

// TestWrite compares the page and the summary with files that a human has looked at.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	must(t, Write(dir, synthetic(1)))
	for _, file := range []string{"summary.md", "index.html"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		if file == "index.html" {
			text = []byte(withoutPictures(string(text)))
		}
		golden.Check(t, filepath.Join("testdata", file), string(text))
	}
}

// withoutPictures cuts the plots out of a page: they are numbers of points.
func withoutPictures(page string) string {
	for {
		before, rest, ok := strings.Cut(page, "<svg")
		if !ok {
			return page
		}
		_, after, _ := strings.Cut(rest, "</svg>")
		page = before + "(plot)" + after
	}
}

// TestPageHasEverything: each metric has a section, and nothing is loaded from elsewhere.
func TestPageHasEverything(t *testing.T) {
	dir := t.TempDir()
	must(t, Write(dir, synthetic(1)))
	text, err := os.ReadFile(filepath.Join(dir, "index.html"))
	must(t, err)
	page := string(text)
	for _, m := range Metrics() {
		if !strings.Contains(page, "<h3>"+m.Title+"</h3>") {
			t.Errorf("the page lacks %s", m.Name)
		}
	}
	for _, outside := range []string{"src=", "href=", "url(", "@import", "<script"} {
		if strings.Contains(page, outside) {
			t.Errorf("the page has %s, and so may need more than itself", outside)
		}
	}
	if !strings.Contains(page, "start failed") || !strings.Contains(page, "&lt;no answer&gt;") {
		t.Error("the page does not say what failed, and with which error")
	}
}

// TestPlots: each is there in both themes, is XML, and names no font of the plot library's.
func TestPlots(t *testing.T) {
	dir := t.TempDir()
	must(t, Write(dir, synthetic(1)))
	for _, d := range drawings() {
		for _, theme := range themes() {
			text, err := os.ReadFile(filepath.Join(dir, fileName(d.name, theme)))
			must(t, err)
			wantXML(t, fileName(d.name, theme), string(text))
			if strings.Contains(string(text), "Liberation") || !strings.Contains(string(text), "viewBox=") {
				t.Errorf("%s names a font that readers lack, or does not scale", fileName(d.name, theme))
			}
		}
	}
}

func wantXML(t *testing.T, file, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
}

// TestNothingMeasured: a report of a run that was interrupted at once has no plots, not even older ones.
func TestNothingMeasured(t *testing.T) {
	dir := t.TempDir()
	must(t, Write(dir, synthetic(1)))
	empty := synthetic(1)
	empty.Measurements = nil
	must(t, Write(dir, empty))
	if files, _ := filepath.Glob(filepath.Join(dir, "*.svg")); len(files) > 0 {
		t.Errorf("%v show something that was not measured", files)
	}
}

// TestAbsentIsNotZero: what a peer lacks is not shown as a figure.
func TestAbsentIsNotZero(t *testing.T) {
	r := synthetic(1)
	for _, table := range r.tables(Control) {
		for _, row := range table.Rows {
			c := row.Cells[2] // kube-proxy iptables
			if row.Services == 1000 && (c.Figure != "" || c.Missing != "start failed") {
				t.Errorf("%s with 1,000 Services: %+v, want a reason and no figure", table.Metric.Name, c)
			}
		}
	}
	size, cells := r.headlineRow(headlines()[0])
	if size != 1000 || !strings.HasPrefix(cells[2], "too slow (") || !strings.HasSuffix(cells[2], "at 100)") {
		t.Errorf("the headline with %d Services says %q, want the figure at 100", size, cells[2])
	}
}

// TestBehind: a figure that is worse than kube-proxy's is among those named, and only then.
func TestBehind(t *testing.T) {
	r := synthetic(1)
	if got := r.behind(); len(got) > 0 {
		t.Errorf("behind in %q, want nothing", got)
	}
	for i := range r.Measurements {
		if m := &r.Measurements[i]; m.Metric == "memory" && m.Peer == Nftproxy && m.Services == 100 {
			m.Samples[0] *= 1000
		}
	}
	if got := r.behind(); len(got) != 2 || !strings.HasPrefix(got[0], "Memory, 100 Services: nftproxy ") {
		t.Errorf("behind in %q, want the memory with 100 Services, against both modes", got)
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	want := synthetic(1)
	want.Failures[0].Error = `an error with {"metric": in it`
	must(t, want.Save(dir))
	got, err := Load(filepath.Join(dir, ResultsFile))
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("saved and loaded (-want +got):\n%s", diff)
	}
	must(t, os.WriteFile(filepath.Join(dir, ResultsFile), []byte(`{"version": 99}`), 0o644))
	if _, err := Load(filepath.Join(dir, ResultsFile)); err == nil {
		t.Error("a file of another version was read")
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{number(0), "0"}, {number(1234567), "1,230,000"}, {number(999.6), "1,000"}, {number(12.345), "12.3"},
		{number(0.01234), "0.0123"}, {number(5), "5"}, {number(-1234), "-1,230"}, {number(100), "100"},
		{value(0.25, "s"), "250 ms"}, {value(12000, "us"), "12 ms"}, {value(1500, "ms"), "1.5 s"}, {value(0.5, "ms"), "500 µs"},
		{value(0, "s"), "0 s"}, {value(3200, "B"), "3.2 kB"}, {value(21000, "1/s"), "21,000/s"}, {value(7, "connections"), "7"},
		{times(24, 2), "12\u00a0×"}, {times(3, 2), "1.50\u00a0×"}, {times(7, 2), "3.5\u00a0×"}, {times(1, 4), "0.25\u00a0×"}, {times(1, 50), "0.02\u00a0×"},
		{commas("-123456"), "-123,456"}, {commas("123"), "123"}, {count(10000), "10,000"}, {plural(1, "Service"), "1 Service"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoise: a figure has the range of its turns; two whose ranges have something in common are not told apart, and one whose range
// is too wide is none.
func TestNoise(t *testing.T) {
	h := headline{"new connections a second", []string{"rate"}, FromPod + Service, ofBare}
	results := func(ours, theirs []float64) *Results {
		r := &Results{Plan: Plan{Sizes: []int{1}, Rounds: 1}}
		for peer, list := range map[string][]float64{Nftproxy: ours, KubeProxyNftables: theirs} {
			r.Measurements = append(r.Measurements,
				Measurement{Metric: "rate", Peer: peer, Services: 1, Target: FromPod + Without, Samples: []float64{100, 100, 100, 100, 100}},
				Measurement{Metric: "rate", Peer: peer, Services: 1, Target: FromPod + Service, Samples: list})
		}
		return r
	}
	steady := []float64{79, 80, 80, 80, 81}
	for _, test := range []struct {
		name         string
		ours, theirs []float64
		want         string
	}{
		{"apart", steady, []float64{84, 85, 85, 86, 86}, "80 % (79.7 to 80.3)|85 % (84.7 to 86)"},
		{"in common", []float64{78, 79, 80, 82, 83}, []float64{80, 81, 82, 83, 84}, "80 % (78.7 to 82.3)|82 % (80.7 to 83.3): no difference seen"},
		{"too wide", steady, []float64{40, 60, 80, 98, 99}, "80 % (79.7 to 80.3)|too noisy (53.3 to 98.3)"},
		{"too few turns", steady[:3], steady[:3], "80 %|80 %"},
	} {
		_, cells := results(test.ours, test.theirs).headlineRow(h)
		if got := strings.Join(cells[:2], "|"); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}
