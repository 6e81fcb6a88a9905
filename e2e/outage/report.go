// SPDX-License-Identifier: Apache-2.0

//go:build linux

package outage

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Peer is one of those that are compared.
type Peer struct {
	Name        string // of its file
	Title       string
	Color       string
	Connections []Connection
}

// Summary tells what counts of connections.
type Summary struct {
	Connections, Failed int
	// Slow are those that took longer than all from before time 0, and most of a second besides: their first packet was sent
	// again, at least.
	Slow int
	// Late are those of Slow and Failed that began 2 s after time 0 or later.
	Late             int
	Longest, LastBad time.Duration // LastBad is when the last of Slow and Failed began
	Before           time.Duration // the longest from before time 0
}

// lateAfter is how long after time 0 a client may still hear of it.
const lateAfter = 2 * time.Second

// Summarize tells what counts of connections.
func Summarize(list []Connection) (s Summary) {
	s.Connections = len(list)
	s.Before = before(list)
	for _, c := range list {
		s.Longest = max(s.Longest, c.Took)
		switch {
		case c.Failed:
			s.Failed++
		case c.slow(s.Before):
			s.Slow++
		default:
			continue
		}
		s.LastBad = max(s.LastBad, c.Began)
	}
	s.Late = len(Late(list))
	return s
}

// Late returns when those connections began that count as late, in order.
func Late(list []Connection) (out []time.Duration) {
	usual := before(list)
	for _, c := range list {
		if c.Began > lateAfter && (c.Failed || c.slow(usual)) {
			out = append(out, c.Began)
		}
	}
	return out
}

// LateAtMost says that more connections are late than so many.
func LateAtMost(list []Connection, n int) error {
	if late := Late(list); len(late) > n {
		return fmt.Errorf("%d connections that began later than %v after the event failed or were slow, want %d at most: those that began after %v", len(late), lateAfter, n, late)
	}
	return nil
}

// before is the longest time that a connection took before time 0, but for the last second, which an event may have met.
func before(list []Connection) (longest time.Duration) {
	for _, c := range list {
		if c.Began < -time.Second {
			longest = max(longest, c.Took)
		}
	}
	return longest
}

// Held is for how long the machine kept the client from beginning a connection of the scene, at worst.
func (s Scene) Held(list []Connection) (longest time.Duration) {
	for i, c := range list {
		longest = max(longest, c.Began+s.Before-time.Duration(i)*time.Second/time.Duration(s.Rate))
	}
	return longest
}

// slow says whether a connection's first packet was sent again.
func (c Connection) slow(before time.Duration) bool { return c.Took > before+900*time.Millisecond }

// Report is a scene with what became of its connections.
type Report struct {
	Scene
	What    string        // happens at time 0
	Noticed time.Duration // when Kubernetes said so; 0: it did not
	Peers   []Peer
}

// Write writes a file of figures for each peer, a table, summary.md, and a picture, failover.svg, into a directory, which is
// made if there is none.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range r.Peers {
		if err := write(filepath.Join(dir, p.Name+".csv"), func(w io.Writer) error { return figures(w, p.Connections) }); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(dir, "summary.md"), func(w io.Writer) error { _, err := io.WriteString(w, r.Table()); return err }); err != nil {
		return err
	}
	return write(filepath.Join(dir, "failover.svg"), func(w io.Writer) error { _, err := io.WriteString(w, r.picture()); return err })
}

func write(path string, fn func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := fn(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}

// figures writes when connections began, how long they took, and whether they failed.
func figures(to io.Writer, list []Connection) error {
	w := csv.NewWriter(to)
	_ = w.Write([]string{"began_s", "took_s", "failed"})
	for _, c := range list {
		_ = w.Write([]string{fmt.Sprintf("%.3f", c.Began.Seconds()), fmt.Sprintf("%.4f", c.Took.Seconds()), strconv.FormatBool(c.Failed)})
	}
	w.Flush()
	return w.Error()
}

// Table returns the peers side by side, as Markdown.
func (r *Report) Table() string {
	var b strings.Builder
	row := func(title string, cell func(Summary) string) {
		fmt.Fprintf(&b, "| %s |", title)
		for _, p := range r.Peers {
			fmt.Fprintf(&b, " %s |", cell(Summarize(p.Connections)))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "|  |")
	for _, p := range r.Peers {
		fmt.Fprintf(&b, " %s |", p.Title)
	}
	fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(r.Peers)))
	none := fmt.Sprintf("more than %v", r.Timeout)
	row("new connections", func(s Summary) string { return fmt.Sprint(s.Connections) })
	row(fmt.Sprintf("failed, or did not stand within %v", r.Timeout), func(s Summary) string { return fmt.Sprint(s.Failed) })
	row("slow: stood after their SYN was sent again", func(s Summary) string { return fmt.Sprint(s.Slow) })
	row("the longest", func(s Summary) string {
		if s.Failed > 0 {
			return none
		}
		return fmt.Sprintf("%.2f s", s.Longest.Seconds())
	})
	row("failed or slow, of those that began 2 s after the loss or later", func(s Summary) string { return fmt.Sprint(s.Late) })
	row("the last that failed or was slow began", func(s Summary) string { return fmt.Sprintf("%.1f s after the loss", s.LastBad.Seconds()) })
	row("the longest before the loss", func(s Summary) string { return fmt.Sprintf("%.1f ms", 1000*s.Before.Seconds()) })
	return b.String()
}
