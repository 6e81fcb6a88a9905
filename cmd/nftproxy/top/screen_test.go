// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/internal/golden"
)

// paper is a Canvas: the chosen line begins with a mark.
type paper struct {
	width  int
	height int
	lines  map[int]string
}

func (p *paper) Size() (width, height int) { return p.width, p.height }

func (p *paper) Put(_, y int, text string, style Style) {
	mark := " "
	if style == Reverse {
		mark = ">"
	}
	p.lines[y] += strings.TrimRight(mark+text[:min(len(text), p.width)], " ")
}

// drawn returns the lines of a screen.
func drawn(s *Screen, height int) string {
	p := &paper{80, height, map[int]string{}}
	s.Draw(p)
	out := ""
	for y := range height {
		out += p.lines[y] + "\n"
	}
	return out
}

// some is a table of a few Services.
func some() Table {
	row := func(name, address string, fresh, open int, bytes uint64, endpoints ...Row) Row {
		return Row{Service: name, Address: address, New: fresh, Rate: float64(fresh) / 2, Open: open, Bytes: bytes, Endpoints: endpoints}
	}
	return Table{Seconds: 2, Services: []Row{
		row("demo/api", "10.96.0.2:80/tcp", 4, 9, 0, row("", "10.244.1.2:80", 3, 1, 0), row("", "10.244.2.2:80", 1, 8, 0)),
		row("demo/web:http", "10.96.0.3:80/tcp", 8, 1, 0, row("", "10.244.1.3:80", 8, 1, 0)),
		row("shop/dns", "[fd00:10:96::4]:53/udp", 0, 3, 0, row("", "[fd00::5]:53", 0, 3, 0)),
	}}
}

// press takes keys in, of which none may end the program.
func press(t *testing.T, s *Screen, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if s.Key(k) {
			t.Errorf("key %q ends the program", k)
		}
		drawn(s, 9)
	}
}

// TestScreen: what is shown after each key.
func TestScreen(t *testing.T) {
	s := &Screen{Choice: Choice{Sort: "new"}, Interval: 2 * time.Second}
	if got, want := drawn(s, 3), " nftproxy top: counting new connections for 2s\n"; !strings.HasPrefix(got, want) {
		t.Errorf("before the first table:\n%s", got)
	}
	s.Show(some(), "Without new connections: 10.244.2.3:80\n")
	text := ""
	for _, keys := range []string{"", "down enter", "down down o", "left e end", "home enter", "e / d n q enter a", "/ backspace s enter", "/ ctrl-u esc", "/ d", "ctrl-u enter p"} {
		press(t, s, strings.Fields(keys)...)
		text += fmt.Sprintf("after %q\n%s\n", keys, drawn(s, 10))
	}
	golden.Check(t, "testdata/TestScreen.txt", text)
	s.Show(Table{Seconds: 2, Services: some().Services[:1]}, "")
	if got := drawn(s, 9); !strings.Contains(got, "3 addresses") {
		t.Errorf("while it is paused it shows another table:\n%s", got)
	}
	press(t, s, "p", "end", "b")
	bytes := some()
	bytes.Services, bytes.Lost = bytes.Services[:2], true
	bytes.Services[0].Bytes = 3 << 20
	s.Show(bytes, "")
	if got := drawn(s, 6); !strings.Contains(got, "BYTES") || !strings.Contains(got, "3.0Mi") || !strings.Contains(got, lostText) || !strings.Contains(got, ">demo/web:http") {
		t.Errorf("the Service that was chosen has gone, bytes are counted, some were lost:\n%s", got)
	}
	for _, key := range []string{"q", "esc", "ctrl-c"} {
		if !s.Key(key) {
			t.Errorf("%s does not end it", key)
		}
	}
}

// TestScreenScrolls: the chosen line is always to be seen, however small the screen and however many Services there are.
func TestScreenScrolls(t *testing.T) {
	s := &Screen{Choice: Choice{Sort: "name"}, Interval: time.Second}
	var table Table
	for i := range 1000 {
		table.Services = append(table.Services, Row{Service: fmt.Sprintf("demo/s%03d", i), Address: fmt.Sprintf("10.96.%d.%d:80/tcp", i/250, i%250)})
	}
	s.Show(table, "")
	drawn(s, 9)
	for _, tt := range []struct {
		key    string
		height int
		want   string
	}{
		{"end", 9, "s999"}, {"up", 9, "s998"}, {"pgup", 9, "s992"}, {"pgup", 4, "s986"}, {"up", 4, "s985"}, {"home", 9, "s000"}, {"pgdn", 9, "s006"}, {"j", 9, "s007"}, {"k", 9, "s006"},
		{"G", 9, "s999"}, {"down", 9, "s999"}, {"g", 9, "s000"}, {"up", 3, "s000"}, {"x", 9, "s000"},
	} {
		s.Key(tt.key)
		if got := drawn(s, tt.height); tt.height > 3 && !strings.Contains(got, ">demo/"+tt.want) {
			t.Errorf("%s on %d lines: chosen is not %s:\n%s", tt.key, tt.height, tt.want, got)
		}
	}
	for height := range 4 {
		drawn(s, height+1) // does not crash
	}
}

// TestScreenTyping: a filter is what can be written, and no more than a line of it.
func TestScreenTyping(t *testing.T) {
	s := &Screen{Choice: Choice{Sort: "new"}}
	s.Show(some(), "")
	press(t, s, "/", "ü", "backspace", "backspace", "tab", "\x1b", "w", "é")
	if s.Filter != "wé" {
		t.Errorf("the filter is %q", s.Filter)
	}
	for range 300 {
		press(t, s, "x")
	}
	if len(s.Filter) > 101 {
		t.Errorf("the filter has %d bytes", len(s.Filter))
	}
	if !s.Key("ctrl-c") {
		t.Error("Ctrl-C does not end it while a filter is typed")
	}
}
