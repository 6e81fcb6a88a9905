// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/nftproxy/nftproxy/printable"
)

// MostFollowed is how many nodes can be followed at once: each takes a connection and a process there.
const MostFollowed = 100

// Follow runs a command that goes on in pods, all at the same time, and writes its lines as they come, each after its node's name, or
// with asJSON as an object that has that, too. It returns the answers without what was written.
func Follow(ctx context.Context, w io.Writer, pods []Pod, asJSON bool, run func(ctx context.Context, p Pod, out, errs io.Writer) (int, error)) []Answer {
	answers := make([]Answer, len(pods))
	to := &together{w: w, json: asJSON}
	for _, p := range pods {
		to.width = max(to.width, len(printable.Word(p.Node)))
	}
	var all sync.WaitGroup
	for i, p := range pods {
		all.Go(func() {
			var said Tail
			out := &lines{to: to, node: printable.Word(p.Node)}
			code, err := run(ctx, p, out, &said)
			out.end()
			answers[i] = Answer{Node: p.Node, Code: code, Errors: said.Text(), Err: err}
		})
	}
	all.Wait()
	return answers
}

// together is where the lines of several nodes go.
type together struct {
	json  bool
	width int // of the longest name

	mu sync.Mutex
	w  io.Writer
}

// line writes a line.
func (t *together) line(node string, line []byte) error {
	var text []byte
	if t.json && json.Valid(line) {
		b, err := json.Marshal(struct {
			Node   string          `json:"node"`
			Answer json.RawMessage `json:"answer"`
		}{node, line})
		if err != nil {
			return err
		}
		text = append(printable.JSON(b), '\n')
	} else {
		text = fmt.Appendf(nil, "%-*s  %s\n", t.width, node, strings.TrimRight(printable.Escaped(string(line)), "\n"))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.w.Write(text)
	return err
}

// lines makes lines of what a node writes.
type lines struct {
	to   *together
	node string
	rest []byte
}

// LongestLine is how long a line may be: what is longer is cut in two.
const LongestLine = 64 << 10

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok && len(l.rest) < LongestLine {
			return len(p), nil
		}
		if !ok {
			line, rest = l.rest, nil
		}
		l.rest = rest
		if err := l.to.line(l.node, line); err != nil {
			return 0, err
		}
	}
}

// end writes what has no end of line.
func (l *lines) end() {
	if len(l.rest) > 0 {
		_ = l.to.line(l.node, l.rest) // who reads has gone
	}
}
