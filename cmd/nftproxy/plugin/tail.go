// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"io"
	"strings"
	"sync"

	"github.com/nftproxy/nftproxy/printable"
)

const mostKept = 4 << 10

// Tail keeps the last of what is written, some thousand bytes: what a pod says is as long as that likes.
type Tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p)
	if more := t.b.Len() - mostKept; more > 0 {
		t.b.Next(more)
	}
	return len(p), nil
}

// whole returns all that is kept.
func (t *Tail) whole() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// Text returns it as a line, without the program's name.
func (t *Tail) Text() string {
	return lineOf(t.whole())
}

var _ io.Writer = (*Tail)(nil)

// lineOf makes one line of what a program has said, without its name.
func lineOf(said string) string {
	return printable.Line(strings.TrimPrefix(strings.TrimSpace(said), "nftproxy: "))
}
