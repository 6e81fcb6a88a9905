// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/nftproxy/nftproxy/printable"
)

// Answer is what a node says.
type Answer struct {
	Node string
	Code int // the exit code
	// Out and Errors are what the command wrote.
	Out, Errors string
	Err         error // it could not be asked
}

// Bounds of what is asked for at once, and of what a node may say.
const (
	atOnce     = 16
	mostOutput = 64 << 20
)

// Ask runs a command in pods, some at a time, and returns the answers in the pods' order.
func Ask(ctx context.Context, pods []Pod, run func(context.Context, Pod, io.Writer, io.Writer) (int, error)) []Answer {
	out := make([]Answer, len(pods))
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, p := range pods {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			var stdout, stderr Bounded
			code, err := run(ctx, p, &stdout, &stderr)
			out[i] = Answer{p.Node, code, stdout.String(), stderr.String(), err}
		})
	}
	all.Wait()
	return out
}

// errTooLong ends a command that writes without an end.
var errTooLong = errors.New("it wrote more than 64 MB")

// Bounded keeps what is written, and refuses what is more than a command may say.
type Bounded struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *Bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > mostOutput {
		return 0, errTooLong
	}
	return b.Buffer.Write(p)
}

// Code returns the exit code of all: the highest.
func Code(answers []Answer) int {
	const fault = 2
	code := 0
	for i := range answers {
		code = max(code, answers[i].Code)
		if answers[i].Err != nil {
			code = max(code, fault)
		}
	}
	return code
}

// WriteText writes the answers: what several nodes say in the same words, once.
func WriteText(w io.Writer, answers []Answer) error {
	var b strings.Builder
	for i, g := range groups(answers, func(a *Answer) string { return fmt.Sprint(a.Code, a.Err, "\x00", a.Out, "\x00", a.Errors) }) {
		if i > 0 {
			b.WriteString("\n")
		}
		a := g[0]
		fmt.Fprintf(&b, "%s:\n", names(g, len(answers)))
		b.WriteString(shown(a.Out))
		b.WriteString(shown(a.Errors))
		if a.Err != nil {
			fmt.Fprintln(&b, printable.Error(a.Err))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shown makes what a node wrote fit to be shown: nftproxy does so itself, but who answers there may be another.
func shown(text string) string {
	if text == "" {
		return ""
	}
	return strings.TrimRight(printable.Escaped(text), "\n") + "\n"
}

// groups puts answers with the same key together, the largest group first.
func groups(answers []Answer, key func(*Answer) string) [][]*Answer {
	var out [][]*Answer
	at := map[string]int{}
	for i := range answers {
		k := key(&answers[i])
		j, ok := at[k]
		if !ok {
			j = len(out)
			at[k], out = j, append(out, nil)
		}
		out[j] = append(out[j], &answers[i])
	}
	slices.SortStableFunc(out, func(a, b []*Answer) int { return len(b) - len(a) })
	return out
}

// names names the nodes of a group: all, or some of them.
func names(g []*Answer, all int) string {
	if len(g) == all && all > 1 {
		return fmt.Sprintf("the same on %d nodes", all)
	}
	const most = 8
	var list []string
	for _, a := range g[:min(most, len(g))] {
		list = append(list, printable.Word(a.Node))
	}
	text := strings.Join(list, ", ")
	if more := len(g) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// WriteJSON writes the answers of commands that write JSON.
func WriteJSON(w io.Writer, answers []Answer) error {
	type node struct {
		Node     string          `json:"node"`
		ExitCode int             `json:"exitCode"`
		Answer   json.RawMessage `json:"answer,omitempty"`
		Error    string          `json:"error,omitempty"`
	}
	list := []node{}
	for i := range answers {
		a := &answers[i]
		n := node{Node: a.Node, ExitCode: a.Code, Error: strings.TrimSpace(a.Errors)}
		if a.Err != nil {
			n.Error = a.Err.Error()
		}
		switch {
		case json.Valid([]byte(a.Out)):
			n.Answer = json.RawMessage(a.Out)
		case a.Out != "":
			n.Error += "no JSON: " + printable.Line(a.Out)
		}
		list = append(list, n)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{"nodes": list}); err != nil {
		return err
	}
	_, err := w.Write(printable.JSON(text.Bytes()))
	return err
}
