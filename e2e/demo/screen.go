// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// screen is what the user reads: text for 100 columns, coloured on a terminal.
type screen struct {
	io.Writer
	color bool
}

func newScreen(w io.Writer) screen {
	return screen{w, isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// say writes a line.
func (s screen) say(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// heading writes a line that begins something new.
func (s screen) heading(format string, args ...any) {
	fmt.Fprintln(s)
	s.say("%s", s.paint("1", fmt.Sprintf(format, args...)))
}

// mark paints a text green if what it says is as it should be, else red.
func (s screen) mark(text string, ok bool) string {
	if ok {
		return s.paint("32", text)
	}
	return s.paint("1;31", text)
}

func (s screen) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// brief returns a duration with as many digits as help.
func brief(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", ms)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// count returns a number and its noun.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
