// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"strings"

	"github.com/gdamore/tcell/v3"
)

// Terminal is the terminal that this process has.
type Terminal struct{ screen tcell.Screen }

// OpenTerminal takes the terminal. Until Close nothing else can be written to it.
func OpenTerminal() (*Terminal, error) {
	screen, err := tcell.NewScreen()
	if err != nil {
		return nil, fmt.Errorf("open the terminal: %w", err)
	}
	if err := screen.Init(); err != nil {
		return nil, fmt.Errorf("open the terminal: %w", err)
	}
	return &Terminal{screen}, nil
}

// Close gives the terminal back as it was.
func (t *Terminal) Close() { t.screen.Fini() }

// Events returns what the terminal tells, for Key. It is closed where the terminal has gone.
func (t *Terminal) Events() <-chan tcell.Event { return t.screen.EventQ() }

// Key returns the name of the key that an event is about, as Screen takes it; empty: it is about none, and the screen is to be
// drawn all the same. It says whether the terminal has gone.
func (t *Terminal) Key(event tcell.Event) (key string, gone bool) {
	switch e := event.(type) {
	case nil, *tcell.EventError:
		return "", true
	case *tcell.EventResize:
		t.screen.Sync()
	case *tcell.EventKey:
		switch e.Key() {
		case tcell.KeyRune:
			return e.Str(), false
		case tcell.KeyBackspace, tcell.KeyBackspace2:
			return "backspace", false
		default:
			return strings.ToLower(tcell.KeyNames[e.Key()]), false
		}
	}
	return "", false
}

// Draw draws a screen.
func (t *Terminal) Draw(s *Screen) {
	t.screen.Clear()
	s.Draw(canvas{t.screen})
	t.screen.Show()
}

// canvas draws on a terminal.
type canvas struct{ tcell.Screen }

// Put implements Canvas.
func (c canvas) Put(x, y int, text string, style Style) {
	look := tcell.StyleDefault
	switch style {
	case Bold:
		look = look.Bold(true)
	case Dim:
		look = look.Dim(true)
	case Reverse:
		look = look.Reverse(true)
		if width, _ := c.Size(); len(text) < width {
			text += strings.Repeat(" ", width-len(text))
		}
	}
	c.PutStrStyled(x, y, text, look)
}
