// SPDX-License-Identifier: Apache-2.0

//go:build linux

package outage

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// example has a connection before, one that is slow, one that is slow and late, one that failed at the end.
func example() []Connection {
	return []Connection{{-4 * time.Second, 5 * ms, false}, {-500 * ms, 3 * time.Second, false}, {time.Second, 2 * time.Second, false},
		{1500 * ms, 800 * ms, false}, {3 * time.Second, time.Second, false}, {9 * time.Second, 30 * time.Second, true}}
}

// TestSummarize: what is slow is told by those from before, but for the last second, which an event may have met.
func TestSummarize(t *testing.T) {
	want := Summary{Connections: 6, Failed: 1, Slow: 3, Late: 2, Longest: 30 * time.Second, LastBad: 9 * time.Second, Before: 5 * ms}
	if got := Summarize(example()); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := Late(example()); !slices.Equal(got, []time.Duration{3 * time.Second, 9 * time.Second}) {
		t.Errorf("late are those that began after %v", got)
	}
	if err := LateAtMost(example(), 2); err != nil {
		t.Error(err)
	}
	if err := LateAtMost(example(), 1); err == nil || !strings.Contains(err.Error(), "[3s 9s]") {
		t.Errorf("two are late where one may be: %v", err)
	}
	if got := (Scene{Rate: 1, Before: 5 * time.Second}).Held(example()[:4]); got != 4*time.Second {
		t.Errorf("the client was held up for %v", got)
	}
	if got := Summarize(nil); got != (Summary{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

// TestWrite: all files are there, the picture is XML and has a line for each peer, whose names are escaped.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	r := Report{Scene: Scene{200, 5 * time.Second, 10 * time.Second, 30 * time.Second}, What: "it <fails>", Noticed: 4 * time.Second,
		Peers: []Peer{{Name: "a", Title: "A & B", Color: "#000", Connections: example()}, {Name: "none", Title: "none", Color: "#111"}}}
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if lines := strings.Split(read("a.csv"), "\n"); len(lines) != 8 || lines[6] != "9.000,30.0000,true" {
		t.Errorf("the figures are %q", lines)
	}
	if text := read("summary.md"); !strings.Contains(text, "| the longest | more than 30s | 0.00 s |") {
		t.Errorf("the table is\n%s", text)
	}
	lines := 0
	for d := xml.NewDecoder(strings.NewReader(read("failover.svg"))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != len(r.Peers) {
		t.Errorf("%d lines in the picture", lines)
	}
}

// listen listens at a port that no connection begins at: who dials his own would not be refused.
func listen(t *testing.T) net.Listener {
	t.Helper()
	for range 1000 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.N(20000))); err == nil {
			return l
		}
	}
	t.Fatal("no port is free")
	return nil
}

// TestDial: as many connections as the rate says; those that are refused have failed, and not for want of time.
func TestDial(t *testing.T) {
	l := listen(t)
	at := l.Addr().(*net.TCPAddr).AddrPort()
	s := Scene{Rate: 100, Before: 100 * ms, After: 100 * ms, Timeout: time.Minute}
	for _, refused := range []bool{false, true} {
		if refused {
			_ = l.Close()
		}
		list, err := s.Dial(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), time.Now().Add(s.Before))
		if err != nil {
			t.Fatal(err)
		}
		failed := 0
		for _, c := range list {
			if c.Failed {
				failed++
			}
			if c.Took <= 0 || c.Took >= s.Timeout {
				t.Errorf("a connection took %v", c.Took)
			}
		}
		if len(list) != 20 || failed != map[bool]int{true: 20}[refused] {
			t.Errorf("refused %t: %d connections, %d failed", refused, len(list), failed)
		}
	}
}
