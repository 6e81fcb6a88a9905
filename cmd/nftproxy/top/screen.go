// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Style is how a text looks.
type Style uint8

// The styles.
const (
	Plain Style = iota
	Bold
	Dim
	Reverse
)

// Canvas is what a Screen is drawn on. It is empty before.
type Canvas interface {
	Size() (width, height int)
	// Put writes text from a column of a line on; what does not fit is cut off.
	Put(x, y int, text string, style Style)
}

// Screen is a table on a terminal, with what its user has made of it. It is for one goroutine.
type Screen struct {
	Choice
	// Interval is the time that each table is about.
	Interval time.Duration

	table    Table // all of it; its Seconds are 0 before the first one
	note     string
	unfolded map[string]bool // addresses of Services whose endpoints are shown
	place    place
	filter   filter
	paused   bool
}

// place is where in the table its user is.
type place struct {
	at    string // the key of the line that is chosen; empty: the first one
	index int    // of it, when it was drawn last
	first int    // line that is shown
	page  int    // lines that are shown
	keys  []string
}

// filter is what is being typed; until Enter the old one can come back.
type filter struct {
	typing bool
	old    string
}

// Show takes the next table, and a note that is shown below it. While the screen is paused, it stays as it is.
func (s *Screen) Show(t Table, note string) {
	if !s.paused {
		s.table, s.note = t, strings.TrimSpace(note)
	}
}

// Key takes in a key by its name: what it writes, or such as up, enter, esc or ctrl-c. It says whether that ends the program.
func (s *Screen) Key(key string) (end bool) {
	if key == "ctrl-c" {
		return true
	}
	if s.filter.typing {
		s.typed(key)
		return false
	}
	switch key {
	case "q", "esc":
		return true
	case "n":
		s.Sort = "new"
	case "o":
		s.Sort = "open"
	case "b":
		s.Sort = "bytes"
	case "a":
		s.Sort = "name"
	case "e":
		s.Endpoints, s.unfolded = !s.Endpoints, nil
	case "p":
		s.paused = !s.paused
	case "/":
		s.filter = filter{typing: true, old: s.Filter}
	case "enter", " ", "right", "left":
		s.unfold(key)
	default:
		s.place.move(key)
	}
	return false
}

// typed takes in a key while a filter is typed.
func (s *Screen) typed(key string) {
	const most = 100
	switch key {
	case "enter":
		s.filter.typing = false
	case "esc":
		s.filter.typing, s.Filter = false, s.filter.old
	case "backspace":
		_, size := utf8.DecodeLastRuneInString(s.Filter)
		s.Filter = s.Filter[:len(s.Filter)-size]
	case "ctrl-u":
		s.Filter = ""
	default:
		if utf8.RuneCountInString(key) == 1 && key >= " " && len(s.Filter) < most {
			s.Filter += key
		}
	}
}

// unfold shows the endpoints of the Service that is chosen, or hides them.
func (s *Screen) unfold(key string) {
	at, endpoint, _ := strings.Cut(s.place.chosen(), " ")
	if at == "" {
		return
	}
	shown := s.isUnfolded(at)
	if s.unfolded == nil {
		s.unfolded = map[string]bool{}
	}
	switch key {
	case "right":
		s.unfolded[at] = !s.Endpoints
	case "left":
		s.unfolded[at] = s.Endpoints
	default:
		s.unfolded[at] = shown == s.Endpoints
	}
	if endpoint != "" {
		s.place.at = at
	}
}

// isUnfolded says so: all Services' endpoints are shown or none, but for those that its user has turned.
func (s *Screen) isUnfolded(address string) bool { return s.Endpoints != s.unfolded[address] }

// chosen returns the key of the line that is chosen.
func (p *place) chosen() string {
	if p.at == "" && len(p.keys) > 0 {
		return p.keys[0]
	}
	return p.at
}

// move chooses another line.
func (p *place) move(key string) {
	steps := map[string]int{"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -p.page, "pgdn": p.page, "home": -len(p.keys), "end": len(p.keys), "g": -len(p.keys), "G": len(p.keys)}
	if len(p.keys) > 0 {
		p.index = min(max(p.index+steps[key], 0), len(p.keys)-1)
		p.at = p.keys[p.index]
	}
	if p.index == 0 {
		p.at = ""
	}
}

// find finds the line that is chosen among others. One that has gone leaves its place to the next.
func (p *place) find(keys []string, page int) {
	p.keys, p.page = keys, max(page, 1)
	found := p.at == ""
	if found {
		p.index = 0
	}
	for i, key := range keys {
		if key == p.at {
			p.index, found = i, true
			break
		}
	}
	p.index = max(min(p.index, len(keys)-1), 0)
	if !found && len(keys) > 0 {
		p.at = keys[p.index]
	}
	p.first = max(min(p.first, p.index, len(keys)-p.page), p.index-p.page+1, 0)
}

// line is one of the table: a Service's, or an endpoint's.
type line struct {
	key    string // the address, and the endpoint's
	row    *Row
	shares string // of new connections by endpoint
}

// lines returns those of a table.
func (s *Screen) lines(t *Table) (out []line) {
	for i := range t.Services {
		r := &t.Services[i]
		if !s.isUnfolded(r.Address) {
			out = append(out, line{r.Address, r, r.shares()})
			continue
		}
		out = append(out, line{r.Address, r, ""})
		for j := range r.Endpoints {
			out = append(out, line{r.Address + " " + r.Endpoints[j].Address, &r.Endpoints[j], ""})
		}
	}
	return out
}

// Draw draws the screen: what it is about, the head, the lines around the one that is chosen, notes, and the keys.
func (s *Screen) Draw(c Canvas) {
	_, height := c.Size()
	chosen := s.table.Choose(&s.Choice)
	lines := s.lines(&chosen)
	keys := make([]string, len(lines))
	for i := range lines {
		keys[i] = lines[i].key
	}
	notes := s.notes(&chosen)
	s.place.find(keys, height-3-len(notes))
	c.Put(0, 0, s.title(&chosen), Bold)
	columns := s.columns(lines, chosen.counted())
	c.Put(0, 1, columns.head(), Dim)
	y := 2
	if len(lines) == 0 && s.table.Seconds > 0 {
		c.Put(0, y, "none", Dim)
	}
	for i := s.place.first; i < len(lines) && i < s.place.first+s.place.page; i++ {
		style := Plain
		if i == s.place.index {
			style = Reverse
		}
		c.Put(0, y, columns.text(lines[i]), style)
		y++
	}
	for i, note := range notes {
		c.Put(0, height-1-len(notes)+i, note, Bold)
	}
	if s.filter.typing {
		c.Put(0, height-1, "filter: "+s.Filter+"_", Bold)
		return
	}
	c.Put(0, height-1, "q quit  / filter  n new  o open  b bytes  a name  enter unfold  e all  p pause", Dim)
}

// title says what the table is about.
func (s *Screen) title(t *Table) string {
	by := map[string]string{"new": "new connections", "open": "open connections"}[s.Sort]
	if by == "" {
		by = s.Sort
	}
	text := fmt.Sprintf("nftproxy top: %d addresses of Services, every %s, by %s", len(t.Services)+t.More, s.Interval, by)
	if s.table.Seconds == 0 {
		text = fmt.Sprintf("nftproxy top: counting new connections for %s", s.Interval)
	}
	if s.Filter != "" {
		text += ", filter " + s.Filter
	}
	if s.paused {
		text += ", paused"
	}
	return text
}

// notes returns what is said below the table.
func (s *Screen) notes(t *Table) (out []string) {
	if t.More > 0 {
		out = append(out, fmt.Sprintf("and %d more", t.More))
	}
	if t.Lost {
		out = append(out, lostText)
	}
	if s.note != "" {
		out = append(out, s.note)
	}
	return out
}

// columns are those of a screen: the widths of the first ones, and which are there.
type columns struct {
	service, address int
	bytes            bool
}

func (s *Screen) columns(lines []line, bytes bool) columns {
	c := columns{len("SERVICE"), len("ADDRESS"), bytes}
	for _, l := range lines {
		c.service, c.address = max(c.service, len(l.name())), max(c.address, len(l.row.Address))
	}
	return c
}

func (l line) name() string {
	if l.row.Service == "" {
		return "  endpoint"
	}
	return l.row.Service
}

func (c columns) head() string {
	return c.join("SERVICE", "ADDRESS", "NEW/S", "OPEN", "BYTES", "ENDPOINTS")
}

func (c columns) text(l line) string {
	return c.join(l.name(), l.row.Address, rateText(l.row.Rate), fmt.Sprint(l.row.Open), BytesText(l.row.Bytes), l.shares)
}

func (c columns) join(service, address, rate, open, bytes, shares string) string {
	text := fmt.Sprintf("%-*s  %-*s %9s %8s", c.service, service, c.address, address, rate, open)
	if c.bytes {
		text += fmt.Sprintf(" %8s", bytes)
	}
	return strings.TrimRight(text+"  "+shares, " ")
}
